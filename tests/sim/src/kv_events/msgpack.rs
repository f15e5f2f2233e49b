//! MessagePack as msgspec writes it: every integer, string and collection in its shortest form.

/// Appends values to a buffer.
#[derive(Debug, Default)]
pub(super) struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    pub(super) fn finish(self) -> Vec<u8> {
        self.bytes
    }

    pub(super) fn nil(&mut self) {
        self.bytes.push(0xc0);
    }

    pub(super) fn float(&mut self, value: f64) {
        self.bytes.push(0xcb);
        self.bytes.extend_from_slice(&value.to_be_bytes());
    }

    pub(super) fn unsigned(&mut self, value: u64) {
        if let Ok(small) = u8::try_from(value) {
            if small >= 0x80 {
                self.bytes.push(0xcc);
            }
            self.bytes.push(small);
        } else if let Ok(value) = u16::try_from(value) {
            self.bytes.push(0xcd);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        } else if let Ok(value) = u32::try_from(value) {
            self.bytes.push(0xce);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        } else {
            self.bytes.push(0xcf);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
    }

    pub(super) fn signed(&mut self, value: i64) {
        if let Ok(value) = u64::try_from(value) {
            self.unsigned(value);
        } else if let Ok(small) = i8::try_from(value) {
            if small < -32 {
                self.bytes.push(0xd0);
            }
            self.bytes.extend_from_slice(&small.to_be_bytes());
        } else if let Ok(value) = i16::try_from(value) {
            self.bytes.push(0xd1);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        } else if let Ok(value) = i32::try_from(value) {
            self.bytes.push(0xd2);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        } else {
            self.bytes.push(0xd3);
            self.bytes.extend_from_slice(&value.to_be_bytes());
        }
    }

    pub(super) fn text(&mut self, text: &str) {
        match u8::try_from(text.len()) {
            Ok(length) if length < 32 => self.bytes.push(0xa0 | length),
            Ok(length) => self.bytes.extend_from_slice(&[0xd9, length]),
            Err(_) => self.long_head(text.len(), 0xda),
        }
        self.bytes.extend_from_slice(text.as_bytes());
    }

    pub(super) fn binary(&mut self, bytes: &[u8]) {
        match u8::try_from(bytes.len()) {
            Ok(length) => self.bytes.extend_from_slice(&[0xc4, length]),
            Err(_) => self.long_head(bytes.len(), 0xc5),
        }
        self.bytes.extend_from_slice(bytes);
    }

    pub(super) fn array(&mut self, length: usize) {
        self.collection(length, 0x90, 0xdc);
    }

    /// msgspec takes the head's width from the entries an object could have, before it leaves out those that are unset.
    pub(super) fn map(&mut self, entries: usize, at_most: usize) {
        match u8::try_from(entries) {
            Ok(entries) if at_most < 16 => self.bytes.push(0x80 | entries),
            _ => self.long_head(entries, 0xde),
        }
    }

    fn collection(&mut self, length: usize, fixed: u8, wide: u8) {
        match u8::try_from(length) {
            Ok(length) if length < 16 => self.bytes.push(fixed | length),
            _ => self.long_head(length, wide),
        }
    }

    /// `marker` with a 16-bit length, or the marker after it with a 32-bit one.
    fn long_head(&mut self, length: usize, marker: u8) {
        if let Ok(length) = u16::try_from(length) {
            self.bytes.push(marker);
            self.bytes.extend_from_slice(&length.to_be_bytes());
        } else {
            self.bytes.push(marker + 1);
            self.bytes.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(write: impl FnOnce(&mut Writer)) -> Vec<u8> {
        let mut writer = Writer::default();
        write(&mut writer);
        writer.finish()
    }

    #[test]
    fn integers_take_their_shortest_form() {
        for (value, bytes) in [
            (0_i64, &[0][..]),
            (127, &[0x7f]),
            (128, &[0xcc, 0x80]),
            (256, &[0xcd, 1, 0]),
            (65_536, &[0xce, 0, 1, 0, 0]),
            (-1, &[0xff]),
            (-32, &[0xe0]),
            (-33, &[0xd0, 0xdf]),
            (-129, &[0xd1, 0xff, 0x7f]),
        ] {
            assert_eq!(written(|writer| writer.signed(value)), bytes, "{value}");
        }
        assert_eq!(written(|writer| writer.unsigned(u64::MAX)), [&[0xcf][..], &[0xff; 8]].concat());
    }

    #[test]
    fn lengths_grow_their_heads() {
        assert_eq!(written(|writer| writer.array(15)), [0x9f]);
        assert_eq!(written(|writer| writer.array(16)), [0xdc, 0, 16]);
        assert_eq!(written(|writer| writer.map(16, 16)), [0xde, 0, 16]);
        assert_eq!(written(|writer| writer.map(3, 16)), [0xde, 0, 3]);
        assert_eq!(written(|writer| writer.map(3, 15)), [0x83]);
        assert_eq!(written(|writer| writer.array(70_000)), [0xdd, 0, 1, 0x11, 0x70]);
        assert_eq!(written(|writer| writer.text(&"x".repeat(31)))[0], 0xbf);
        assert_eq!(written(|writer| writer.text(&"x".repeat(32)))[..2], [0xd9, 32]);
        assert_eq!(written(|writer| writer.text(&"x".repeat(256)))[..3], [0xda, 1, 0]);
        assert_eq!(written(|writer| writer.binary(&[7; 2])), [0xc4, 2, 7, 7]);
    }
}
