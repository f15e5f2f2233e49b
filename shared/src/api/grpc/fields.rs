//! The fields of one protobuf message, one level deep. What a field means is its reader's affair: the wire tells a string
//! from a message no more than from packed numbers.

/// The bytes are no message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    /// Every whole number and boolean.
    Varint(u64),
    /// Strings, messages, packed numbers.
    Bytes(&'a [u8]),
    /// Floats.
    Fixed,
}

impl Value<'_> {
    /// A `uint32` as its readers take it: the lower half.
    pub(crate) fn number(self) -> Option<u32> {
        let Self::Varint(number) = self else { return None };
        u32::try_from(number & u64::from(u32::MAX)).ok()
    }
}

/// Field numbers and values, in the order of the wire; ends behind the first error.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    rest: &'a [u8],
}

impl<'a> Fields<'a> {
    pub(crate) const fn new(message: &'a [u8]) -> Self {
        Self { rest: message }
    }

    fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0_u64;
        for place in 0..10 {
            let (&byte, behind) = self.rest.split_first().ok_or(Malformed)?;
            self.rest = behind;
            value |= u64::from(byte & 0x7F) << (7 * place);
            if byte < 0x80 {
                return Ok(value);
            }
        }
        Err(Malformed)
    }

    fn take(&mut self, count: u64) -> Result<&'a [u8], Malformed> {
        let count = usize::try_from(count).map_err(|_| Malformed)?;
        let (bytes, behind) = self.rest.split_at_checked(count).ok_or(Malformed)?;
        self.rest = behind;
        Ok(bytes)
    }

    fn field(&mut self) -> Result<(u32, Value<'a>), Malformed> {
        let tag = self.varint()?;
        let number = u32::try_from(tag >> 3).ok().filter(|&number| number > 0).ok_or(Malformed)?;
        let value = match tag & 7 {
            0 => Value::Varint(self.varint()?),
            1 => self.take(8).map(|_| Value::Fixed)?,
            2 => {
                let length = self.varint()?;
                Value::Bytes(self.take(length)?)
            }
            5 => self.take(4).map(|_| Value::Fixed)?,
            _ => return Err(Malformed),
        };
        Ok((number, value))
    }

    /// The numbers of a repeated field: one, or all of them packed.
    pub(crate) fn numbers(value: Value<'a>, mut each: impl FnMut(u32)) -> Result<(), Malformed> {
        match value {
            Value::Varint(_) => value.number().into_iter().for_each(each),
            Value::Bytes(packed) => {
                let mut packed = Fields::new(packed);
                while !packed.rest.is_empty() {
                    Value::Varint(packed.varint()?).number().into_iter().for_each(&mut each);
                }
            }
            Value::Fixed => return Err(Malformed),
        }
        Ok(())
    }
}

impl<'a> Iterator for Fields<'a> {
    type Item = Result<(u32, Value<'a>), Malformed>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.rest.is_empty() {
            return None;
        }
        let field = self.field();
        if field.is_err() {
            self.rest = &[];
        }
        Some(field)
    }
}
