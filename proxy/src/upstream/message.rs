//! A request on its way to an endpoint, and how often it can be sent.

use bytes::Bytes;
use http::Request;
use http::request::Parts;

use crate::http::Body;

/// A request that belongs to whoever tries to send it. What was not sent, or can be sent again, is still there after a try.
#[derive(Debug)]
pub struct Message {
    parts: Parts,
    content: Content,
}

#[derive(Debug)]
enum Content {
    /// At hand, so that it can be sent any number of times.
    Whole(Bytes),
    /// As it comes, once.
    Once(Body),
    /// A try has taken it.
    Spent,
}

impl Message {
    /// A request whose body is at hand: it can be repeated.
    pub fn whole(parts: Parts, body: Bytes) -> Self {
        Self { parts, content: Content::Whole(body) }
    }

    /// A request that can be sent once.
    pub fn once(request: Request<Body>) -> Self {
        let (parts, body) = request.into_parts();
        Self { parts, content: Content::Once(body) }
    }

    /// Its head.
    pub fn parts(&self) -> &Parts {
        &self.parts
    }

    /// Its head, to change it before the next try.
    pub fn parts_mut(&mut self) -> &mut Parts {
        &mut self.parts
    }

    /// Whether it is known to have no body.
    pub fn is_without_body(&self) -> bool {
        matches!(&self.content, Content::Whole(bytes) if bytes.is_empty())
    }

    /// Whether it can be sent at all: no try has spent its body.
    pub fn can_be_sent(&self) -> bool {
        !matches!(self.content, Content::Spent)
    }

    /// Whether it can be sent again after a try that was seen through.
    pub fn can_be_repeated(&self) -> bool {
        matches!(self.content, Content::Whole(_))
    }

    /// The body for one try.
    pub(super) fn take_body(&mut self) -> Body {
        match &self.content {
            Content::Whole(bytes) if bytes.is_empty() => Body::Empty,
            Content::Whole(bytes) => Body::Full(bytes.clone()),
            Content::Once(_) | Content::Spent => match std::mem::replace(&mut self.content, Content::Spent) {
                Content::Once(body) => body,
                _ => Body::Cut,
            },
        }
    }

    /// Nothing was sent: the body of the try comes back.
    pub(super) fn give_back(&mut self, body: Body) {
        if let Content::Spent = self.content {
            self.content = Content::Once(body);
        }
    }

    /// The request for a try that takes it by value. A copy, if it can be repeated.
    pub(super) fn take(&mut self) -> Request<Body> {
        let body = self.take_body();
        let parts = match self.content {
            Content::Whole(_) => self.parts.clone(),
            _ => std::mem::replace(&mut self.parts, Request::new(()).into_parts().0),
        };
        Request::from_parts(parts, body)
    }

    /// Nothing was sent: the request of [`take`](Self::take) comes back.
    pub(super) fn put_back(&mut self, request: Request<Body>) {
        if let Content::Spent = self.content {
            *self = Self::once(request);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Parts {
        Request::builder().uri("/again").body(()).unwrap().into_parts().0
    }

    #[test]
    fn what_is_at_hand_can_be_sent_again_and_the_rest_once() {
        let mut whole = Message::whole(parts(), Bytes::from_static(b"x"));
        for _ in 0..2 {
            assert_eq!(whole.take().uri().path(), "/again");
            assert!(matches!(whole.take_body(), Body::Full(_)) && whole.can_be_repeated());
        }
        let mut once = Message::once(Request::from_parts(parts(), Body::Empty));
        assert!(once.can_be_sent() && !once.can_be_repeated());
        let unsent = once.take();
        assert!(!once.can_be_sent());
        once.put_back(unsent);
        assert!(once.can_be_sent());
        assert_eq!(once.parts().uri.path(), "/again");
        let body = once.take_body();
        once.give_back(body);
        assert!(once.can_be_sent());
    }
}
