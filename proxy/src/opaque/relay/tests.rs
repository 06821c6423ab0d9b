//! Both ways of a connection, between streams in memory and between sockets of the kernel.

use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Wake;

use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};
use tokio::net::TcpListener;

use super::*;

#[derive(Default)]
struct Counted(Cell<u64>, Cell<u64>);

impl Count for Counted {
    fn sent(&self, bytes: u64) {
        self.0.set(self.0.get() + bytes);
    }

    fn received(&self, bytes: u64) {
        self.1.set(self.1.get() + bytes);
    }
}

trait Io: AsyncRead + AsyncWrite + Unpin {}
impl<T: AsyncRead + AsyncWrite + Unpin> Io for T {}

/// The result, bytes sent and bytes received.
type Relayed = (io::Result<()>, u64, u64);

struct Ends {
    client: Box<dyn Io>,
    server: Box<dyn Io>,
    relay: Pin<Box<dyn Future<Output = Relayed>>>,
    carriers: Rc<Carriers>,
}

fn in_memory(size: usize) -> Ends {
    let (client, downstream) = duplex(size);
    let (upstream, server) = duplex(size);
    let carriers = Rc::new(Carriers::default());
    let carried = carriers.clone();
    let relay = Box::pin(async move {
        let counted = Counted::default();
        let result = relay(&carried, downstream, upstream, &counted).await;
        (result, counted.0.get(), counted.1.get())
    });
    Ends { client: Box::new(client), server: Box::new(server), relay, carriers }
}

async fn sockets() -> Ends {
    let (client, downstream) = pair().await;
    let (upstream, server) = pair().await;
    let carriers = Rc::new(Carriers::default());
    let carried = carriers.clone();
    let relay = Box::pin(async move {
        let counted = Counted::default();
        let result = relay_tcp(&carried, downstream, upstream, &counted).await;
        (result, counted.0.get(), counted.1.get())
    });
    Ends { client: Box::new(client), server: Box::new(server), relay, carriers }
}

async fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
    (client, listener.accept().await.unwrap().0)
}

fn numbers(length: u32, seed: u32) -> Vec<u8> {
    (seed..seed + length).map(|i| (i.wrapping_mul(2_654_435_761) >> 24) as u8).collect()
}

#[tokio::test]
async fn each_side_may_end_first_and_the_other_goes_on() {
    for client_first in [true, false] {
        for Ends { client, server, relay, .. } in [in_memory(64), sockets().await] {
            let (mut first, mut second) = if client_first { (client, server) } else { (server, client) };
            let talk = async move {
                first.write_all(b"question").await.unwrap();
                first.shutdown().await.unwrap();
                let mut heard = String::new();
                second.read_to_string(&mut heard).await.unwrap();
                assert_eq!(heard, "question");
                second.write_all(b"a long answer after the end").await.unwrap();
                second.shutdown().await.unwrap();
                let mut answer = String::new();
                first.read_to_string(&mut answer).await.unwrap();
                assert_eq!(answer, "a long answer after the end");
            };
            let ((result, sent, received), ()) = tokio::join!(relay, talk);
            result.unwrap();
            assert_eq!(sent + received, 35);
            assert_eq!(received, if client_first { 8 } else { 27 });
        }
    }
}

#[tokio::test]
async fn more_than_all_buffers_goes_both_ways_at_once_whole_and_in_order() {
    for (Ends { client, server, relay, carriers }, splices) in
        [(in_memory(5000), false), (sockets().await, true)]
    {
        let (up, down) = (numbers(3_000_000, 1), numbers(2_000_000, 7));
        let speak = |io: Box<dyn Io>, bytes: Vec<u8>| async move {
            let (mut read, mut write) = tokio::io::split(io);
            let send = async {
                write.write_all(&bytes).await.unwrap();
                write.shutdown().await.unwrap();
            };
            let mut heard = Vec::new();
            let (_, ()) = tokio::join!(read.read_to_end(&mut heard), send);
            heard
        };
        let ((result, sent, received), at_client, at_server) =
            tokio::join!(relay, speak(client, up.clone()), speak(server, down.clone()));
        result.unwrap();
        assert!(at_client == down && at_server == up);
        assert_eq!((sent, received), (down.len() as u64, up.len() as u64));
        let (lent, idle) = carriers.pipes();
        assert_eq!((lent, idle > 0), (0, splices));
    }
}

#[tokio::test]
async fn little_goes_without_a_pipe() {
    let Ends { mut client, mut server, relay, carriers } = sockets().await;
    let talk = async move {
        let mut heard = [0; 100];
        for _ in 0..10 {
            client.write_all(&[7; 100]).await.unwrap();
            server.read_exact(&mut heard).await.unwrap();
        }
    };
    let ((result, ..), ()) = tokio::join!(relay, talk);
    result.unwrap();
    assert_eq!(carriers.pipes(), (0, 0));
}

#[tokio::test]
async fn a_pipe_in_which_a_broken_connection_left_something_is_not_used_again() {
    let Ends { mut client, server, mut relay, carriers } = sockets().await;
    let bytes = vec![1; 64 * 1024];
    let send_for_ever = async { while client.write_all(&bytes).await.is_ok() {} };
    // Between two turns of the relay a pipe is lent only when the receiver does not take what is in it.
    let stuck = async {
        while carriers.pipes().0 == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::select! {
        biased;
        (result, ..) = &mut relay => panic!("the relay ended: {result:?}"),
        () = send_for_ever => panic!("the client was cut off"),
        () = stuck => {}
    }
    drop(relay);
    assert_eq!(carriers.pipes(), (0, 0));
    drop(server);
}

#[tokio::test(start_paused = true)]
async fn an_hour_of_silence_ends_the_connection() {
    let Ends { client, server, relay, .. } = in_memory(64);
    let begun = Instant::now();
    let (result, ..) = relay.await;
    assert_eq!(result.unwrap_err().kind(), io::ErrorKind::TimedOut);
    assert_eq!(begun.elapsed(), IDLE_TIMEOUT);
    drop((client, server));
}

#[derive(Default)]
struct Woken(AtomicUsize);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
fn a_connection_that_never_pauses_lets_others_have_their_turn() {
    let woken = Arc::new(Woken::default());
    let waker = woken.clone().into();
    let mut cx = Context::from_waker(&waker);
    let (moved, over) = turn(&mut cx, |_| Poll::Ready(Ok(Step::Moved(100_000))));
    assert!((TURN_BYTES..TURN_BYTES + 100_000).contains(&moved));
    assert!(over.is_pending());
    assert_eq!(woken.0.load(Ordering::Relaxed), 1);
}

#[test]
fn an_idle_connection_holds_no_buffer() {
    assert!(size_of::<Copying>() <= 64 && size_of::<Splicing>() <= 128);
}
