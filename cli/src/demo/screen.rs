//! The live table of the demo.

use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

use super::traffic::Seen;
use super::watch::Meters;

/// A table that is not on a terminal is printed this often.
const PLAIN_EVERY: Duration = Duration::from_secs(5);

/// Where the table and the acts are shown.
pub(super) struct Screen {
    shown: bool,
    terminal: bool,
    begun: Instant,
    drawn_lines: usize,
    last_plain: Option<Instant>,
    last: Option<(Instant, Seen)>,
}

impl Screen {
    /// A screen; one that is not `shown` says only on standard error what happens.
    pub(super) fn new(shown: bool) -> Self {
        let terminal = std::io::stdout().is_terminal();
        Self { shown, terminal, begun: Instant::now(), drawn_lines: 0, last_plain: None, last: None }
    }

    /// A line for something that happens; stays above the table.
    pub(super) fn event(&mut self, text: &str) {
        let line = format!("[{:6.2} s] {text}", self.begun.elapsed().as_secs_f64());
        if !self.shown {
            eprintln!("{line}");
            return;
        }
        self.erase();
        println!("{line}");
    }

    /// Draws the table anew.
    pub(super) fn draw(&mut self, seen: &Seen, meters: &Meters) {
        let due = self.terminal || self.last_plain.is_none_or(|at| at.elapsed() >= PLAIN_EVERY);
        if !self.shown || !due {
            return;
        }
        self.last_plain = Some(Instant::now());
        let text = self.table(seen, meters);
        self.erase();
        println!("{text}");
        if self.terminal {
            self.drawn_lines = text.lines().count();
        }
        self.last = Some((Instant::now(), seen.clone()));
    }

    fn erase(&mut self) {
        if self.drawn_lines > 0 {
            print!("\x1b[{}A\x1b[J", self.drawn_lines);
            // A terminal that is gone shows nothing anyway.
            let _ = std::io::stdout().flush();
            self.drawn_lines = 0;
        }
    }

    fn table(&self, seen: &Seen, meters: &Meters) -> String {
        let (rate, share) = match &self.last {
            Some((at, before)) => {
                let seconds = at.elapsed().as_secs_f64().max(0.001);
                ((seen.requests - before.requests) as f64 / seconds, seen.share_v2_since(before).0)
            }
            None => (0.0, seen.share_v2_since(&Seen::default()).0),
        };
        let success = 100.0 - seen.failed as f64 * 100.0 / seen.requests.max(1) as f64;
        let row = vec![
            seen.requests.to_string(),
            format!("{rate:.0}/s"),
            format!("{success:.2} %"),
            format!("{:.1} / {:.1} ms", seen.percentile_ms(50.0), seen.percentile_ms(99.0)),
            format!("{:.0} / {:.0} %", (1.0 - share) * 100.0, share * 100.0),
            format!("{:.1} %", meters.mtls_percent()),
            format!("{:.0}", meters.ejected),
        ];
        let header = ["REQUESTS", "RATE", "SUCCESS", "P50 / P99", "REVIEWS V1 / V2", "MTLS", "EJECTED"];
        let mut text = crate::output::table(&header, vec![row]);
        for (instance, answers) in &seen.instances {
            text.push_str(&format!("\n  {instance:<14} {answers} answers"));
        }
        text
    }
}
