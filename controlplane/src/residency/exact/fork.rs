//! The children of blocks that have several. Unordered: a child remembers its place, the last takes the place of one
//! that leaves.

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

    /// Returns the child's place.
    pub(super) fn push(&mut self, number: u32, child: u32) -> u32 {
        let Some(fork) = self.forks.get_mut(number as usize) else { return 0 };
        fork.push(child);
        u32::try_from(fork.len() - 1).unwrap_or(u32::MAX)
    }

    /// Takes the child out; returns who has its place now.
    pub(super) fn take(&mut self, number: u32, place: u32) -> Option<u32> {
        let fork = self.forks.get_mut(number as usize)?;
        if (place as usize) < fork.len() {
            fork.swap_remove(place as usize);
        }
        fork.get(place as usize).copied()
    }

    /// The last child, whose fork is then gone.
    pub(super) fn close_if_single(&mut self, number: u32) -> Option<u32> {
        let fork = self.forks.get_mut(number as usize)?;
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
