//! Frames made by hand.

use super::*;

/// An Ethernet frame from 10.0.0.1:4000 to 10.0.0.2:80, or back.
fn frame(is_from_client: bool, sequence: u32, flags: u8, payload: &[u8]) -> Vec<u8> {
    let (mut from, mut to) = (([10, 0, 0, 1], 4000_u16), ([10, 0, 0, 2], 80_u16));
    if !is_from_client {
        std::mem::swap(&mut from, &mut to);
    }
    let mut frame = vec![0; 12];
    frame.extend([0x08, 0x00, 0x45, 0]);
    frame.extend(u16::try_from(40 + payload.len()).unwrap().to_be_bytes());
    frame.extend([0, 0, 0, 0, 64, TCP, 0, 0]);
    frame.extend(from.0.into_iter().chain(to.0));
    frame.extend(from.1.to_be_bytes().into_iter().chain(to.1.to_be_bytes()));
    frame.extend(sequence.to_be_bytes().into_iter().chain([0; 4]));
    frame.extend([0x50, flags, 0, 0, 0, 0, 0, 0]);
    frame.extend(payload);
    frame.resize(frame.len().max(60), b'#');
    frame
}

fn pcap(frames: &[Vec<u8>]) -> Vec<u8> {
    let mut file = MAGIC.to_ne_bytes().to_vec();
    file.resize(FILE_HEADER_BYTES, 0);
    for frame in frames {
        let length = u32::try_from(frame.len()).unwrap().to_ne_bytes();
        file.extend([0; 8].into_iter().chain(length).chain(length));
        file.extend(frame);
    }
    file
}

#[test]
fn streams_are_put_together_without_padding_and_retransmissions() {
    let wrapping = u32::MAX - 2;
    let file = pcap(&[
        frame(true, wrapping, SYN, b""),
        frame(false, 7, SYN | ACK, b""),
        frame(true, wrapping.wrapping_add(1), ACK, b"hel"),
        frame(true, wrapping.wrapping_add(1), ACK, b"hello"),
        frame(true, wrapping.wrapping_add(1), ACK, b"hel"),
        frame(false, 8, ACK, b"yes"),
        frame(true, wrapping.wrapping_add(6), ACK | 0x01, b"!"),
        frame(true, wrapping.wrapping_add(8), ACK, b""),
    ]);
    let streams = streams(&file).unwrap();
    assert_eq!(streams.len(), 2);
    assert_eq!((streams[0].bytes.as_slice(), streams[0].is_from_client), (b"hello!".as_slice(), true));
    assert_eq!((streams[1].bytes.as_slice(), streams[1].is_from_client), (b"yes".as_slice(), false));
    assert_eq!(streams[0].to, "10.0.0.2:80".parse().unwrap());
    assert!(streams[0].contains("ello!") && !streams[0].contains("yes"));
}

#[test]
fn a_gap_is_an_error_and_other_frames_are_none() {
    let gap = pcap(&[frame(true, 1, SYN, b""), frame(true, 3, ACK, b"late")]);
    assert!(streams(&gap).unwrap_err().to_string().contains("lacks a packet"));
    let mut arp = frame(true, 1, SYN, b"");
    arp[13] = 0x06;
    assert_eq!(streams(&pcap(&[arp, vec![0; 3]])).unwrap(), []);
    assert!(streams(b"not a recording").is_err());
}
