//! The children of blocks that have several, in no order. A child is found by looking through its siblings, which is
//! cheaper than every block knowing its place: few blocks have siblings.

/// Forks under 32-bit numbers.
#[derive(Default)]
pub(super) struct Forks {
    forks: Vec<Vec<u32>>,
    free: Vec<u32>,
}

impl Forks {
    /// A new fork of two.
    pub(super) fn open(&mut self, first: u32, second: u32) -> u32 {
        let number = self.free.pop().unwrap_or_else(|| {
            self.forks.push(Vec::new());
            u32::try_from(self.forks.len() - 1).unwrap_or(u32::MAX)
        });
        if let Some(fork) = self.forks.get_mut(number as usize) {
            fork.extend([first, second]);
        }
        number
    }

    pub(super) fn push(&mut self, number: u32, child: u32) {
        if let Some(fork) = self.forks.get_mut(number as usize) {
            fork.push(child);
        }
    }

    /// Takes the child out. Returns the last one left, whose fork is then gone.
    pub(super) fn take(&mut self, number: u32, child: u32) -> Option<u32> {
        let fork = self.forks.get_mut(number as usize)?;
        if let Some(place) = fork.iter().position(|&other| other == child) {
            fork.swap_remove(place);
        }
        let &[only] = &**fork else { return None };
        *fork = Vec::new();
        self.free.push(number);
        Some(only)
    }

    pub(super) fn children(&self, number: u32) -> &[u32] {
        self.forks.get(number as usize).map_or(&[], Vec::as_slice)
    }

    pub(super) fn bytes(&self) -> usize {
        let children: usize = self.forks.iter().map(|fork| fork.capacity() * 4).sum();
        self.forks.capacity() * size_of::<Vec<u32>>() + self.free.capacity() * 4 + children
    }
}
