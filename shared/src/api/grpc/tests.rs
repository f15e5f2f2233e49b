//! The frame and field readers alone.

use proptest::prelude::*;

use super::*;

/// Each message as it came: its flag and its bytes.
fn messages<'c>(chunks: impl IntoIterator<Item = &'c [u8]>) -> (Vec<(bool, Vec<u8>)>, bool) {
    let (mut frames, mut found, mut open) = (Frames::default(), Vec::new(), None);
    for mut chunk in chunks {
        while let Some(piece) = frames.next(&mut chunk) {
            match piece {
                Piece::Start { compressed } => open = Some((compressed, Vec::new())),
                Piece::Bytes(bytes) => open.as_mut().expect("begun").1.extend_from_slice(bytes),
                Piece::End => found.extend(open.take()),
            }
        }
        assert!(chunk.is_empty());
    }
    (found, frames.is_between())
}

proptest! {
    #[test]
    fn messages_come_out_as_they_went_in_however_they_are_cut(
        sent in proptest::collection::vec((any::<bool>(), proptest::collection::vec(any::<u8>(), 0..9)), 0..4), size in 1_usize..9,
    ) {
        let mut stream = Vec::new();
        for (compressed, message) in &sent {
            stream.push(u8::from(*compressed));
            stream.extend_from_slice(&u32::try_from(message.len()).expect("short").to_be_bytes());
            stream.extend_from_slice(message);
        }
        prop_assert_eq!(messages([stream.as_slice()]), (sent.clone(), true));
        prop_assert_eq!(messages(stream.chunks(size)), (sent, true));
        if let Some((_, cut)) = stream.split_last() {
            prop_assert!(!messages([cut]).1);
        }
    }

    #[test]
    fn any_bytes_have_fields_up_to_an_error(bytes in proptest::collection::vec(any::<u8>(), 0..50)) {
        let fields: Vec<_> = Fields::new(&bytes).collect();
        prop_assert!(fields.iter().rev().skip(1).all(Result::is_ok));
    }
}

fn field(bytes: &[u8]) -> Option<Result<(u32, Value<'_>), Malformed>> {
    Fields::new(bytes).next()
}

#[test]
fn numbers_beyond_their_type_are_cut_to_it_and_endless_ones_are_malformed() {
    let minus_one = [0x08, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 1];
    let Some(Ok((1, value))) = field(&minus_one) else { panic!("a number") };
    assert_eq!(value.number(), Some(u32::MAX));
    assert_eq!(field(&[0xFF; 12]), Some(Err(Malformed)));
    for wrong in [&[0x00, 1][..], &[0x0B], &[0x0C], &[0x0A, 5, 1], &[0x09, 1], &[0x0D, 1]] {
        assert_eq!(field(wrong), Some(Err(Malformed)), "{wrong:?}");
    }
    assert_eq!(field(&[0x0D, 1, 2, 3, 4]), Some(Ok((1, Value::Fixed))));
}
