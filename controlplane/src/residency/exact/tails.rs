//! Small byte strings of many lengths under 32-bit numbers, packed by length: what a block ends (chunk keys) and the
//! state its chain stopped in. The owner remembers the length; a number alone finds nothing.

/// Lengths are rounded up to this.
const GRAIN: usize = 2;
/// Longest string.
pub(super) const LONGEST: usize = 8 << 10;
/// Strings in a page.
const PAGE: usize = 64;

#[derive(Default)]
pub(super) struct Tails {
    /// By rounded length.
    classes: Vec<Class>,
    used_bytes: usize,
}

#[derive(Default)]
struct Class {
    pages: Vec<Box<[u8]>>,
    free: Vec<u32>,
    used: u32,
}

impl Tails {
    /// `None` when it is too long or numbers ran out.
    pub(super) fn insert(&mut self, bytes: &[u8]) -> Option<u32> {
        if bytes.len() > LONGEST {
            return None;
        }
        let class = bytes.len().div_ceil(GRAIN);
        if self.classes.len() <= class {
            self.classes.resize_with(class + 1, Class::default);
        }
        self.used_bytes += class * GRAIN;
        let (size, class) = (class * GRAIN, self.classes.get_mut(class)?);
        let number = class.take(size)?;
        class.place(number, size)?.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(number)
    }

    pub(super) fn get(&self, number: u32, len: usize) -> Option<&[u8]> {
        let class = len.div_ceil(GRAIN);
        let size = class * GRAIN;
        let number = usize::try_from(number).ok()?;
        let start = number % PAGE * size;
        self.classes.get(class)?.pages.get(number / PAGE)?.get(start..start + len)
    }

    pub(super) fn release(&mut self, number: u32, len: usize) {
        if let Some(class) = self.classes.get_mut(len.div_ceil(GRAIN)) {
            class.free.push(number);
            self.used_bytes -= len.div_ceil(GRAIN) * GRAIN;
        }
    }

    /// Of strings that are in use, bytes.
    pub(super) const fn used_bytes(&self) -> usize {
        self.used_bytes
    }

    /// Memory behind it, bytes.
    pub(super) fn bytes(&self) -> usize {
        let pages = |(class, of): (usize, &Class)| {
            of.pages.len() * PAGE * class * GRAIN
                + of.pages.capacity() * size_of::<Box<[u8]>>()
                + of.free.capacity() * 4
        };
        self.classes.capacity() * size_of::<Class>() + self.classes.iter().enumerate().map(pages).sum::<usize>()
    }
}

impl Class {
    fn take(&mut self, size: usize) -> Option<u32> {
        if let Some(number) = self.free.pop() {
            return Some(number);
        }
        let number = self.used;
        if usize::try_from(number).ok()? == self.pages.len() * PAGE {
            self.pages.push(vec![0; PAGE * size].into());
        }
        self.used = number.checked_add(1)?;
        Some(number)
    }

    fn place(&mut self, number: u32, size: usize) -> Option<&mut [u8]> {
        let number = usize::try_from(number).ok()?;
        let start = number % PAGE * size;
        self.pages.get_mut(number / PAGE)?.get_mut(start..start + size)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strings_of_all_lengths_come_back_and_released_places_are_used_again() {
        let mut tails = Tails::default();
        let strings: Vec<Vec<u8>> =
            (0..=250u8).cycle().zip(0..3000usize).map(|(byte, i)| vec![byte; i % 131]).collect();
        let mut numbers: Vec<u32> = strings.iter().map(|s| tails.insert(s).unwrap()).collect();
        let size = tails.bytes();
        for round in 0..3 {
            for (number, string) in numbers.iter_mut().zip(&strings).skip(round).step_by(3) {
                tails.release(*number, string.len());
                *number = tails.insert(string).unwrap();
            }
        }
        for (number, string) in numbers.iter().zip(&strings) {
            assert_eq!(tails.get(*number, string.len()).unwrap(), string);
        }
        assert!(tails.bytes() <= size + 4096);
        assert_eq!(tails.insert(&vec![0; LONGEST + 1]), None);
    }
}
