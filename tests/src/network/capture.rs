//! What passes a wire, taken apart into the streams of its TCP connections.
//!
//! tcpdump records, this reads the file: the classic pcap format (draft-ietf-opsawg-pcap) with Ethernet frames. A bridge
//! of one machine loses and reorders nothing, so that retransmissions need no more than to be left out.

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, anyhow, bail};
use tempfile::TempDir;

use crate::eventually;
use crate::process::{Process, Program, Signal};

/// How long tcpdump may take to begin, to write what has passed, and to end.
const PATIENCE: Duration = Duration::from_secs(10);
/// The most that is read, in bytes.
const MAX_FILE_BYTES: u64 = 256 * 1024 * 1024;
/// The start of a file in this machine's byte order, with microseconds.
const MAGIC: u32 = 0xA1B2_C3D4;
const FILE_HEADER_BYTES: usize = 24;
const PACKET_HEADER_BYTES: usize = 16;
const ETHERNET_HEADER_BYTES: usize = 14;
const IPV6_HEADER_BYTES: usize = 40;
const TCP: u8 = 6;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// A recording that goes on.
#[derive(Debug)]
pub struct Capture {
    tcpdump: Process,
    dir: TempDir,
}

/// One direction of a TCP connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stream {
    /// Who sent.
    pub from: SocketAddr,
    /// Who was to receive.
    pub to: SocketAddr,
    /// Whether the sender is the one that connected.
    pub is_from_client: bool,
    /// What was sent.
    pub bytes: Vec<u8>,
}

impl Capture {
    pub(super) async fn start(tcpdump: Program, interface: &str) -> Result<Self> {
        let dir = tempfile::tempdir().context("cannot make a directory for a capture")?;
        // -U and --immediate-mode: a packet is in the file as soon as it was seen.
        let args =
            ["-i", interface, "-U", "--immediate-mode", "-n", "-s", "0", "-B", "16384", "-Z", "root", "-w"];
        let tcpdump = tcpdump.args(args).args([dir.path().join("pcap")]).start()?;
        let begun = eventually(PATIENCE, async || tcpdump.stderr().contains("listening on").then_some(()));
        begun.await.ok_or_else(|| anyhow!("tcpdump did not begin:\n{}", tcpdump.stderr()))?;
        Ok(Self { tcpdump, dir })
    }

    /// Waits until `last`, which the caller has put on the wire, is recorded, and with it all that passed before; then
    /// gives the streams in the order in which they began.
    ///
    /// # Errors
    /// When `last` does not come, or the recording cannot be read.
    pub async fn finish(mut self, last: &[u8]) -> Result<Vec<Stream>> {
        let file = self.file();
        let recorded = async || fs::read(&file).is_ok_and(|bytes| contains(&bytes, last)).then_some(());
        eventually(PATIENCE, recorded).await.context("the last packet was not recorded")?;
        self.tcpdump.signal(Signal::Terminate)?;
        self.tcpdump.wait_exit(PATIENCE).await?;
        let size_bytes = fs::metadata(&file).context("the recording is gone")?.len();
        if size_bytes > MAX_FILE_BYTES {
            bail!("the recording has {size_bytes} bytes, more than {MAX_FILE_BYTES}");
        }
        streams(&fs::read(&file).context("cannot read the recording")?)
    }

    fn file(&self) -> PathBuf {
        self.dir.path().join("pcap")
    }
}

impl Stream {
    /// Whether this text was sent.
    #[must_use]
    pub fn contains(&self, text: &str) -> bool {
        contains(&self.bytes, text.as_bytes())
    }
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

/// A TCP segment.
struct Segment<'a> {
    from: SocketAddr,
    to: SocketAddr,
    sequence: u32,
    flags: u8,
    payload: &'a [u8],
}

/// A direction while it is read: what comes next, and what is there.
struct Reading {
    next: u32,
    stream: Stream,
}

fn streams(pcap: &[u8]) -> Result<Vec<Stream>> {
    if pcap.first_chunk().map(|magic| u32::from_ne_bytes(*magic)) != Some(MAGIC) {
        bail!("the recording is not a pcap file of this machine");
    }
    let mut readings: Vec<Reading> = Vec::new();
    let mut current: BTreeMap<(SocketAddr, SocketAddr), usize> = BTreeMap::new();
    for segment in packets(&pcap[FILE_HEADER_BYTES..]).filter_map(segment) {
        let pair = (segment.from, segment.to);
        if segment.flags & SYN != 0 {
            // A pair of addresses that comes again is another connection.
            current.insert(pair, readings.len());
            readings.push(Reading::begin(&segment));
        } else if let Some(reading) = current.get(&pair).and_then(|index| readings.get_mut(*index)) {
            reading.add(&segment)?;
        }
    }
    Ok(readings.into_iter().map(|reading| reading.stream).collect())
}

impl Reading {
    fn begin(segment: &Segment<'_>) -> Self {
        // The answer to a SYN acknowledges it.
        let is_from_client = segment.flags & ACK == 0;
        let stream = Stream { from: segment.from, to: segment.to, is_from_client, bytes: Vec::new() };
        Self { next: segment.sequence.wrapping_add(1), stream }
    }

    fn add(&mut self, segment: &Segment<'_>) -> Result<()> {
        if segment.payload.is_empty() {
            // An acknowledgement, whose number counts a FIN as well.
            return Ok(());
        }
        let known = self.next.wrapping_sub(segment.sequence);
        let new = match usize::try_from(known) {
            Ok(known) if known <= segment.payload.len() => &segment.payload[known..],
            // Sent before, all of it.
            _ if known < u32::MAX / 2 => return Ok(()),
            _ => bail!("the recording lacks a packet from {} to {}", self.stream.from, self.stream.to),
        };
        self.stream.bytes.extend_from_slice(new);
        self.next = self.next.wrapping_add(u32::try_from(new.len()).unwrap_or_default());
        Ok(())
    }
}

/// The frames of a file; a last one that is not complete is left out.
fn packets(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let length: [u8; 4] = rest.get(8..12)?.try_into().ok()?;
        let end = PACKET_HEADER_BYTES + usize::try_from(u32::from_ne_bytes(length)).ok()?;
        let frame = rest.get(PACKET_HEADER_BYTES..end)?;
        rest = &rest[end..];
        Some(frame)
    })
}

/// The TCP segment in an Ethernet frame; `None` when it holds something else.
fn segment(frame: &[u8]) -> Option<Segment<'_>> {
    let packet = frame.get(ETHERNET_HEADER_BYTES..)?;
    let ((from, to), tcp) = match frame.get(12..14)? {
        [0x08, 0x00] => ipv4(packet)?,
        [0x86, 0xDD] => ipv6(packet)?,
        _ => return None,
    };
    let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
    let header_bytes = usize::from(tcp.get(12)? >> 4) * 4;
    Some(Segment {
        from: SocketAddr::new(from, port(0)?),
        to: SocketAddr::new(to, port(2)?),
        sequence: u32::from_be_bytes(tcp.get(4..8)?.try_into().ok()?),
        flags: *tcp.get(13)?,
        payload: tcp.get(header_bytes..)?,
    })
}

type Addresses = (IpAddr, IpAddr);

fn ipv4(packet: &[u8]) -> Option<(Addresses, &[u8])> {
    let header_bytes = usize::from(packet.first()? & 0x0F) * 4;
    let total_bytes = usize::from(u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?));
    // A frame shorter than 60 bytes is padded, and the padding is not payload.
    let payload = packet.get(header_bytes..total_bytes)?;
    let address =
        |at: usize| Some(IpAddr::from(Ipv4Addr::from(<[u8; 4]>::try_from(packet.get(at..at + 4)?).ok()?)));
    (packet.get(9) == Some(&TCP)).then_some(((address(12)?, address(16)?), payload))
}

fn ipv6(packet: &[u8]) -> Option<(Addresses, &[u8])> {
    let payload_bytes = usize::from(u16::from_be_bytes(packet.get(4..6)?.try_into().ok()?));
    let payload = packet.get(IPV6_HEADER_BYTES..IPV6_HEADER_BYTES + payload_bytes)?;
    let address =
        |at: usize| Some(IpAddr::from(Ipv6Addr::from(<[u8; 16]>::try_from(packet.get(at..at + 16)?).ok()?)));
    (packet.get(6) == Some(&TCP)).then_some(((address(8)?, address(24)?), payload))
}

#[cfg(test)]
mod tests;
