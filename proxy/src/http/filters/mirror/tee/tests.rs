//! One body in, the same body and its copies out.

use std::task::Waker;

use http_body_util::BodyExt;

use super::*;

/// Polls without anybody to wake.
fn now<T>(poll: impl FnOnce(&mut Context<'_>) -> Poll<T>) -> Option<T> {
    match poll(&mut Context::from_waker(Waker::noop())) {
        Poll::Ready(value) => Some(value),
        Poll::Pending => None,
    }
}

fn text(frame: Option<Option<Result<Frame<Bytes>, BodyError>>>) -> String {
    match frame {
        None => "waits".to_owned(),
        Some(None) => "end".to_owned(),
        Some(Some(Err(error))) => error.to_string(),
        Some(Some(Ok(frame))) => String::from_utf8(frame.into_data().unwrap().to_vec()).unwrap(),
    }
}

fn teed(first: &'static str, rest: Body) -> (Teed, Rc<Channel>) {
    let channel = Channel::new(None);
    let body = Body::begun(Bytes::from_static(first.as_bytes()), rest);
    (Teed::new(body, std::slice::from_ref(&channel)), channel)
}

#[tokio::test]
async fn a_copy_is_the_whole_body() {
    let (teed, channel) = teed("one ", Body::Full(Bytes::from_static(b"two")));
    let whole = Body::Teed(Box::new(teed)).collect().await.unwrap().to_bytes();
    let copy = Body::Copied(Copied::of(&channel)).collect().await.unwrap().to_bytes();
    assert_eq!((&*whole, &*copy), (&b"one two"[..], &b"one two"[..]));
    assert!(!channel.is_cut());
}

#[test]
fn a_copy_waits_for_the_request_and_never_the_other_way_round() {
    let (mut teed, channel) = teed("one", Body::Full(Bytes::from_static(b"two")));
    let mut copy = Copied::of(&channel);
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), "waits");
    assert_eq!(text(now(|cx| teed.poll_frame(cx))), "one");
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), "one");
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), "waits");
    // Nobody reads the copy while the request goes on.
    assert_eq!(text(now(|cx| teed.poll_frame(cx))), "two");
    // Whoever sends a body of a known length does not ask for its end.
    drop(teed);
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), "two");
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), "end");
}

#[test]
fn a_copy_of_what_breaks_off_is_no_message() {
    let (mut broken, channel) = teed("one", Body::Cut);
    let mut copy = Copied::of(&channel);
    while now(|cx| broken.poll_frame(cx)).flatten().is_some_and(|frame| frame.is_ok()) {}
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), "one");
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), BodyError::Cut.to_string());
    let (dropped, channel) = teed("one", Body::Empty);
    drop(dropped);
    assert_eq!(text(now(|cx| Copied::of(&channel).poll_frame(cx))), BodyError::Cut.to_string());
    assert!(channel.is_cut() && !channel.is_lost());
}

#[test]
fn a_copy_that_is_too_slow_is_lost_and_holds_no_memory() {
    let channel = Channel::new(Some(10 * MAX_WAITING_BYTES as u64));
    let piece = Frame::data(Bytes::from(vec![b'x'; MAX_WAITING_BYTES / 4]));
    let mut copy = Copied::of(&channel);
    for _ in 0..4 {
        channel.push(&piece);
    }
    assert!(!channel.is_lost());
    channel.push(&piece);
    assert!(channel.is_lost() && channel.0.borrow().waiting.is_empty());
    assert_eq!(text(now(|cx| copy.poll_frame(cx))), BodyError::Cut.to_string());
}
