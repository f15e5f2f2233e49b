//! What libzmq 4.3.5 (a PUB socket, by way of pyzmq 27.3) wrote to a raw TCP client, recorded; and hostile peers.

use proptest::prelude::*;

use super::*;

const GREETING: &str = "ff00000000000000017f03014e554c4c000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000000";
const READY: &str = "04190552454144590b536f636b65742d5479706500000003505542";
/// Topic `kv@a`, number 5, 300 times `x`; the payload is left out.
const MESSAGE_HEAD: &str = "01046b7640610108000000000000000502000000000000012c";
const PING: &str = "04070450494e470000";
const PONG_WITH_CONTEXT: &str = "040904504f4e4761626364";

fn hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn session() -> Vec<u8> {
    [hex(READY), hex(MESSAGE_HEAD), vec![b'x'; 300], hex(PING), hex(PONG_WITH_CONTEXT)].concat()
}

/// Feeds `bytes` in `pieces` of this size.
fn decode(role: Role, bytes: &[u8], pieces: usize) -> Result<Vec<Traffic>, Violation> {
    let mut decoder = Decoder::new(role, 1000);
    let mut buffer = BytesMut::new();
    let mut traffic = Vec::new();
    for piece in bytes.chunks(pieces) {
        buffer.extend_from_slice(piece);
        while let Some(next) = decoder.next(&mut buffer)? {
            traffic.push(next);
        }
    }
    Ok(traffic)
}

#[test]
fn a_recorded_session_is_understood_however_it_is_cut() {
    assert_eq!(read_greeting(&hex(GREETING).try_into().unwrap()), Ok(Revision::V31));
    let seq = Bytes::from_static(&[0, 0, 0, 0, 0, 0, 0, 5]);
    let message = vec![Bytes::from_static(b"kv@a"), seq, Bytes::from(vec![b'x'; 300])];
    let expected = [Traffic::Ready, Traffic::Message(message), Traffic::Ping(Bytes::new()), Traffic::Other];
    for pieces in [1, 2, 3, 7, 64, 1000] {
        assert_eq!(decode(Role::Sub, &session(), pieces).unwrap(), expected, "pieces of {pieces}");
    }
}

#[test]
fn what_we_send_is_what_libzmq_answered_to() {
    assert_eq!(ready(Role::Sub), hex("04190552454144590b536f636b65742d5479706500000003535542"));
    assert_eq!(subscribe(b"kv", Revision::V31), hex("040c095355425343524942456b76"));
    assert_eq!(subscribe(b"kv", Revision::V30), hex("0003016b76"));
    assert_eq!(ping(), hex(PING));
    assert_eq!(pong(b"abcd"), hex(PONG_WITH_CONTEXT));
    let sent = message(&[b"", &7_u64.to_be_bytes(), &[b'z'; 256]]);
    assert_eq!(decode(Role::Dealer, &sent, 5).unwrap().len(), 1);
}

#[test]
fn a_peer_of_another_kind_is_refused() {
    let violation = Violation::SocketType("PUB".to_owned());
    assert_eq!(decode(Role::Dealer, &hex(READY), 99), Err(violation));
    let mut greeting: [u8; GREETING_BYTES] = hex(GREETING).try_into().unwrap();
    greeting[12..17].copy_from_slice(b"CURVE");
    assert_eq!(read_greeting(&greeting), Err(Violation::Mechanism));
    assert_eq!(
        read_greeting(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n"),
        Err(Violation::Greeting)
    );
}

#[test]
fn lengths_are_limited_before_the_bytes_have_come() {
    let long = |length: u64| [vec![LONG], length.to_be_bytes().to_vec()].concat();
    assert_eq!(decode(Role::Sub, &long(1001), 99), Err(Violation::TooLarge(1000)));
    assert_eq!(decode(Role::Sub, &long(u64::MAX), 99), Err(Violation::TooLarge(1000)));
    assert_eq!(decode(Role::Sub, &long(1000), 99), Ok(vec![]));
    // Parts count together, and there are few.
    let parts = [message(&[&[0; 600], &[0; 600]])].concat();
    assert_eq!(decode(Role::Sub, &parts, 99), Err(Violation::TooLarge(1000)));
    assert_eq!(decode(Role::Sub, &message(&[b"" as &[u8]; 9]), 99), Err(Violation::Malformed));
    assert_eq!(
        decode(Role::Sub, &[vec![COMMAND | LONG], 5000_u64.to_be_bytes().to_vec()].concat(), 99),
        Err(Violation::TooLarge(LONGEST_COMMAND))
    );
}

proptest! {
    #[test]
    fn random_and_mutated_bytes_never_panic(
        noise in proptest::collection::vec(any::<u8>(), 0..300),
        at in any::<proptest::sample::Index>(),
        byte in any::<u8>(),
    ) {
        let _whatever = decode(Role::Sub, &noise, 50);
        let mut session = session();
        let at = at.index(session.len());
        session[at] = byte;
        let _whatever = decode(Role::Sub, &session, 50);
    }
}
