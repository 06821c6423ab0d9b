//! The access log: finished lines go to one writer thread, and a worker never waits for it.
//!
//! What waits to be written is bounded in lines and in bytes; a line beyond a bound is dropped and counted. The thread
//! writes in batches and wakes at most once per [`BATCH_PAUSE`], so that a busy worker pays no system call for a line.
//! This module does not know what a line says.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread;
use std::time::Duration;

/// How many lines may wait.
pub const MAX_QUEUED_LINES: usize = 8192;

/// How many bytes may wait.
pub const MAX_QUEUED_BYTES: usize = 8 << 20;

/// How long the thread lets lines gather before it writes them.
pub const BATCH_PAUSE: Duration = Duration::from_millis(10);

/// How long [`Closer::close`] waits for lines to be written.
pub const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// A batch is written when it has this many bytes, if not before.
const BATCH_BYTES: usize = 64 << 10;

/// Takes lines. Cheap to clone; each worker has one.
#[derive(Debug, Clone)]
pub struct Writer {
    queue: SyncSender<Message>,
    state: Arc<State>,
}

/// Ends the log in order: held by the one who opened it. Dropping it ends the log too, without waiting.
#[derive(Debug)]
pub struct Closer {
    queue: SyncSender<Message>,
    stop: SyncSender<()>,
    written: Receiver<()>,
}

#[derive(Debug, Default)]
struct State {
    queued_bytes: AtomicUsize,
    dropped: AtomicU64,
}

#[derive(Debug)]
enum Message {
    Line(Vec<u8>),
    /// Look whether the log is to end: for a thread that waits for lines.
    Wake,
}

/// Starts the thread that writes to `sink`.
pub fn open(sink: impl Write + Send + 'static) -> io::Result<(Writer, Closer)> {
    let (queue, lines) = sync_channel(MAX_QUEUED_LINES);
    let (stop, stopped) = sync_channel(1);
    let (done, written) = sync_channel(1);
    let state = Arc::new(State::default());
    let log = Log { sink, state: state.clone(), batch: Vec::with_capacity(BATCH_BYTES), lines_in_batch: 0 };
    thread::Builder::new().name("access-log".to_owned()).spawn(move || {
        log.run(&lines, &stopped);
        // A line that comes later is refused, and so counted, from here on.
        drop(lines);
        // Nobody waits when the closer is gone already.
        let _ = done.try_send(());
    })?;
    Ok((Writer { queue: queue.clone(), state }, Closer { queue, stop, written }))
}

impl Writer {
    /// Hands over one line, which ends with its line feed. Drops and counts it when too much waits already.
    pub fn write(&self, line: Vec<u8>) {
        let bytes = line.len();
        let before = self.state.queued_bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = before.saturating_add(bytes) <= MAX_QUEUED_BYTES;
        if !fits || self.queue.try_send(Message::Line(line)).is_err() {
            self.state.queued_bytes.fetch_sub(bytes, Ordering::Relaxed);
            self.state.dropped.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// How many lines were dropped so far, or could not be written.
    pub fn dropped(&self) -> u64 {
        self.state.dropped.load(Ordering::Relaxed)
    }
}

impl Closer {
    /// Writes what was handed over until now and ends the thread; waits for it up to [`CLOSE_TIMEOUT`] and says
    /// whether it was in time. Blocks: call it when the workers are gone. Lines that come later are dropped.
    pub fn close(self) -> bool {
        // The order matters: a queue without room for the second message holds lines, after which the thread sees the
        // first.
        let _ = self.stop.try_send(());
        let _ = self.queue.try_send(Message::Wake);
        self.written.recv_timeout(CLOSE_TIMEOUT) != Err(RecvTimeoutError::Timeout)
    }
}

/// The thread's side.
struct Log<S> {
    sink: S,
    state: Arc<State>,
    batch: Vec<u8>,
    lines_in_batch: u64,
}

impl<S: Write> Log<S> {
    fn run(mut self, lines: &Receiver<Message>, stop: &Receiver<()>) {
        let mut open = true;
        while open {
            open = match lines.recv() {
                Ok(Message::Line(line)) => {
                    self.add(line);
                    let go_on = stop.recv_timeout(BATCH_PAUSE) == Err(RecvTimeoutError::Timeout);
                    self.gather(lines) && go_on
                }
                Ok(Message::Wake) | Err(_) => false,
            };
            self.flush();
        }
    }

    /// Takes what waits; says whether more may come.
    fn gather(&mut self, lines: &Receiver<Message>) -> bool {
        for message in lines.try_iter().take(MAX_QUEUED_LINES) {
            match message {
                Message::Line(line) => self.add(line),
                Message::Wake => return false,
            }
            if self.batch.len() >= BATCH_BYTES {
                self.flush();
            }
        }
        true
    }

    fn add(&mut self, line: Vec<u8>) {
        self.batch.extend_from_slice(&line);
        self.lines_in_batch += 1;
        self.state.queued_bytes.fetch_sub(line.len(), Ordering::Relaxed);
    }

    fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.sink.write_all(&self.batch).and_then(|()| self.sink.flush()).is_err() {
            self.state.dropped.fetch_add(self.lines_in_batch, Ordering::Relaxed);
        }
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES);
        self.lines_in_batch = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A sink that waits for leave before each write and passes on what is written.
    struct Gate {
        leave: Receiver<()>,
        written: SyncSender<Vec<u8>>,
    }

    impl Write for Gate {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.leave.recv().map_err(|_| io::ErrorKind::BrokenPipe)?;
            self.written.send(bytes.to_vec()).map_err(|_| io::ErrorKind::BrokenPipe)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn gate() -> (Gate, SyncSender<()>, Receiver<Vec<u8>>) {
        let ((leave, gate_leave), (gate_written, written)) = (sync_channel(100), sync_channel(100));
        (Gate { leave: gate_leave, written: gate_written }, leave, written)
    }

    #[test]
    fn lines_are_written_in_order_and_closing_waits_for_them() {
        let (sink, leave, written) = gate();
        let (writer, closer) = open(sink).unwrap();
        for number in 0..100 {
            writer.write(format!("{number}\n").into_bytes());
        }
        (0..100).for_each(|_| leave.send(()).unwrap());
        assert!(closer.close());
        let lines: Vec<u8> = written.try_iter().flatten().collect();
        let expected: String = (0..100).map(|number| format!("{number}\n")).collect();
        assert_eq!(String::from_utf8(lines).unwrap(), expected);
        assert_eq!(writer.dropped(), 0);
        writer.write(b"late\n".to_vec());
        assert_eq!(writer.dropped(), 1);
    }

    #[test]
    fn a_stuck_sink_drops_lines_and_holds_nobody_up() {
        let (sink, leave, _written) = gate();
        let (writer, closer) = open(sink).unwrap();
        // The thread takes a first batch and is stuck with it; what fits into the queue afterwards is bounded.
        for _ in 0..3 * MAX_QUEUED_LINES {
            writer.write(b"x\n".to_vec());
        }
        assert!(writer.dropped() >= MAX_QUEUED_LINES as u64, "{}", writer.dropped());
        assert!(!closer.close());
        drop(leave);
    }

    #[test]
    fn the_queue_is_bounded_in_bytes() {
        let (sink, _leave, _written) = gate();
        let (writer, _closer) = open(sink).unwrap();
        writer.write(vec![b'x'; MAX_QUEUED_BYTES + 1]);
        assert_eq!(writer.dropped(), 1);
    }

    #[test]
    fn lines_that_cannot_be_written_are_counted() {
        let (sink, leave, _written) = gate();
        drop(leave);
        let (writer, closer) = open(sink).unwrap();
        writer.write(b"x\n".to_vec());
        writer.write(b"y\n".to_vec());
        assert!(closer.close());
        assert_eq!(writer.dropped(), 2);
    }
}
