//! A second try beside one that is slow. The first answer wins; the other try is dropped, which closes its connection or resets
//! its stream and gives its lease back without a word about its endpoint.
//!
//! Only for GET, HEAD and OPTIONS without a body, which may be sent twice whatever they do (RFC 9110, section 9.2.1). A gRPC call
//! is a POST with a body, so it is never hedged.

use std::pin::pin;

use futures_util::future::{Either, select};
use http::Method;
use outrigger_model::policy::Hedge;
use tokio::time::Instant;

use super::{Loop, conclude, within_time};
use crate::http::deadline;
use crate::http::exchange::Exchange;
use crate::http::forward::{self, Arrived, Failed, Outgoing};
use crate::reason::Refusal;
use crate::upstream::{Lease, Message};

impl<'a> Loop<'a> {
    /// The hedging of the route, if this request is safe to send twice.
    pub(super) fn hedge(&self) -> Option<&'a Hedge> {
        let hedge = self.plan.forward.hedge.as_ref()?;
        let safe = matches!(self.message.parts().method, Method::GET | Method::HEAD | Method::OPTIONS);
        (safe && self.message.is_without_body()).then_some(hedge)
    }

    /// One attempt, with a second one beside it when it is slow.
    pub(super) async fn hedged(
        &mut self,
        exchange: &mut Exchange,
        hedge: &Hedge,
    ) -> Result<Result<Arrived, Failed>, Refusal> {
        let (hedging, started) = (self.plan.cluster.hedging(), Instant::now());
        self.plan.cluster.could_be_hedged(started);
        let ended = match hedging.delay(hedge.delay_percentile) {
            None => self.once(exchange).await,
            Some(delay) => self.beside(exchange, hedge, started + delay).await,
        };
        if let Ok(Ok(_)) = &ended {
            // When the second one won, the first took longer than that, which is what a percentile needs to know.
            hedging.took(started.elapsed());
        }
        ended
    }

    async fn beside(
        &mut self,
        exchange: &mut Exchange,
        hedge: &Hedge,
        slow_at: Instant,
    ) -> Result<Result<Arrived, Failed>, Refusal> {
        let lease = self.lease()?;
        self.record(exchange, lease.endpoint(), &self.target(lease.endpoint()));
        let grpc = exchange.grpc;
        let mut first = pin!(self.trying(lease, grpc));
        let worker = self.connection.worker.clone();
        if let Ok(ended) = worker.alarms.until(slow_at, first.as_mut()).await {
            return Ok(ended);
        }
        let Some(other) = self.other_lease(hedge) else { return Ok(first.await) };
        let endpoint = other.endpoint().clone();
        let mut second = pin!(self.trying(other, grpc));
        let (ended, is_second) = match select(first, second.as_mut()).await {
            Either::Left((Ok(arrived), _)) => (Ok(arrived), false),
            Either::Left((Err(_), second)) => (second.await, true),
            Either::Right((Ok(arrived), _)) => {
                self.plan.cluster.hedge_won();
                (Ok(arrived), true)
            }
            Either::Right((Err(_), first)) => (first.await, false),
        };
        if is_second {
            self.record(exchange, &endpoint, &self.target(&endpoint));
        }
        Ok(ended)
    }

    /// Another endpoint, within the budget for second tries; `None` when there is none.
    fn other_lease(&mut self, hedge: &Hedge) -> Option<Lease> {
        let before = self.tried.len;
        let other = self.lease().ok()?;
        let number = other.endpoint().number();
        let is_new = !self.tried.numbers[..before.min(self.tried.numbers.len())].contains(&number);
        (is_new && self.plan.cluster.allow_hedge(hedge.max_extra_percent, Instant::now())).then_some(other)
    }

    /// The request once more.
    fn copy(&self) -> Message {
        let mut parts = self.message.parts().clone();
        if let Some(at) = self.plan.deadline {
            deadline::write((&mut parts.headers, self.plan.fields), at, Instant::now());
        }
        Message::whole(parts, bytes::Bytes::new())
    }

    /// One try, which holds all that it needs: dropping it ends it.
    fn trying(&self, lease: Lease, grpc: bool) -> impl Future<Output = Result<Arrived, Failed>> + use<'a> {
        let (target, mut message, end) = (self.target(lease.endpoint()), self.copy(), self.end_of_try());
        let (worker, policy) = (&self.connection.worker, &self.plan.cluster.config().connection);
        async move {
            let to = Outgoing { target: &target, policy, lease: Some(&lease) };
            let sending = forward::send(worker, &to, &mut message);
            let sent = within_time((&worker.alarms, end), sending).await;
            conclude(grpc, lease, sent)
        }
    }
}
