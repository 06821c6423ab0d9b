//! The log of a process: one line an event, on standard error.
//!
//! Text with colours on a terminal, JSON otherwise. The filter can be replaced while the process runs. For events of
//! the process, not for requests: those have `access_log`, which never makes a worker wait.

use std::io::{self, IsTerminal};

use tracing::Subscriber;
use tracing_subscriber::filter::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::{Layer, SubscriberExt};
use tracing_subscriber::registry::Registry;
use tracing_subscriber::reload;

/// The filter unless told otherwise.
pub const DEFAULT_FILTER: &str = "info";

/// The longest filter that is taken, in bytes.
pub const MAX_FILTER_BYTES: usize = 4096;

/// How log lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, clap::ValueEnum)]
pub enum LogFormat {
    /// Text on a terminal, JSON otherwise.
    #[default]
    Auto,
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// What to log, and how.
#[derive(Debug, Clone)]
pub struct LogOptions {
    /// How lines look.
    pub format: LogFormat,
    /// Which events are logged: a level, or `target=level` pairs separated by commas.
    pub filter: String,
}

/// Changes the filter of a running process. Cheap to clone.
#[derive(Debug, Clone)]
pub struct LogHandle {
    reload: reload::Handle<EnvFilter, Registry>,
}

/// Why logging cannot be set up or changed.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    /// The filter cannot be read.
    #[error(
        "{filter:?} is not a log filter ({reason}); write a level (error, warn, info, debug, trace) or pairs like \
         outrigger_proxy=debug,hyper=warn"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Logging was set up before.
    #[error("logging is already set up in this process")]
    AlreadySet,
    /// The logging of the process is gone.
    #[error("the log of this process is closed")]
    Closed,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Style {
    Plain,
    Coloured,
    Json,
}

/// Sets up the log of this process.
pub fn init(options: &LogOptions) -> Result<LogHandle, LogError> {
    let style = style(options.format, io::stderr().is_terminal());
    let (subscriber, handle) = subscriber(&options.filter, style, io::stderr)?;
    tracing::subscriber::set_global_default(subscriber).map_err(|_| LogError::AlreadySet)?;
    Ok(handle)
}

impl LogHandle {
    /// Replaces the filter. A filter that cannot be read changes nothing.
    pub fn set_filter(&self, filter: &str) -> Result<(), LogError> {
        self.reload.reload(parse_filter(filter)?).map_err(|_| LogError::Closed)
    }

    /// The filter in force.
    pub fn filter(&self) -> Result<String, LogError> {
        self.reload.with_current(ToString::to_string).map_err(|_| LogError::Closed)
    }
}

fn style(format: LogFormat, terminal: bool) -> Style {
    match (format, terminal) {
        (LogFormat::Json, _) | (LogFormat::Auto, false) => Style::Json,
        (LogFormat::Text | LogFormat::Auto, true) => Style::Coloured,
        (LogFormat::Text, false) => Style::Plain,
    }
}

fn subscriber<W>(filter: &str, style: Style, writer: W) -> Result<(impl Subscriber, LogHandle), LogError>
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let (filter, reload) = reload::Layer::new(parse_filter(filter)?);
    let lines = tracing_subscriber::fmt::layer().with_writer(writer);
    let lines = match style {
        Style::Json => lines.json().flatten_event(true).with_current_span(false).boxed(),
        Style::Plain => lines.with_ansi(false).boxed(),
        Style::Coloured => lines.with_ansi(true).boxed(),
    };
    Ok((tracing_subscriber::registry().with(filter).with(lines), LogHandle { reload }))
}

fn parse_filter(filter: &str) -> Result<EnvFilter, LogError> {
    let refused = |reason: String| LogError::Filter { filter: filter.chars().take(100).collect(), reason };
    if filter.trim().is_empty() {
        return Err(refused("it is empty".to_owned()));
    }
    if filter.len() > MAX_FILTER_BYTES {
        return Err(refused(format!("it is longer than {MAX_FILTER_BYTES} bytes")));
    }
    EnvFilter::builder().parse(filter).map_err(|error| refused(error.to_string()))
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    /// A writer that keeps what is written.
    #[derive(Clone, Default)]
    struct Page(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Page {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Page {
        fn text(&self) -> String {
            String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
        }
    }

    fn log(style: Style, filter: &str, body: impl FnOnce(LogHandle)) -> String {
        let page = Page::default();
        let writer = page.clone();
        let (subscriber, handle) = subscriber(filter, style, move || writer.clone()).unwrap();
        tracing::subscriber::with_default(subscriber, || body(handle));
        page.text()
    }

    #[test]
    fn json_has_one_object_a_line_with_flat_fields() {
        let text = log(Style::Json, "info", |_| {
            tracing::info!(downstream.addr = "127.0.0.1:1", "hello");
            tracing::debug!("not this");
        });
        let line: serde_json::Value = serde_json::from_str(text.trim_end()).unwrap();
        assert_eq!(
            (&line["message"], &line["level"], &line["downstream.addr"]),
            (&"hello".into(), &"INFO".into(), &"127.0.0.1:1".into())
        );
    }

    #[test]
    fn text_has_colours_only_on_a_terminal() {
        let plain = log(Style::Plain, "info", |_| tracing::info!("hello"));
        let coloured = log(Style::Coloured, "info", |_| tracing::info!("hello"));
        assert!(plain.contains("hello") && !plain.contains('\x1b'), "{plain:?}");
        assert!(coloured.contains("hello") && coloured.contains('\x1b'), "{coloured:?}");
        assert_eq!(
            (style(LogFormat::Auto, true), style(LogFormat::Auto, false)),
            (Style::Coloured, Style::Json)
        );
        assert_eq!(
            (style(LogFormat::Text, false), style(LogFormat::Json, true)),
            (Style::Plain, Style::Json)
        );
    }

    #[test]
    fn the_filter_is_replaced_while_running() {
        let text = log(Style::Json, "warn", |handle| {
            tracing::debug!("first");
            handle.set_filter("debug").unwrap();
            tracing::debug!("second");
            assert!(matches!(handle.set_filter("a=b=c"), Err(LogError::Filter { .. })));
            assert_eq!(handle.filter().unwrap(), "debug");
            tracing::debug!("third");
        });
        assert!(!text.contains("first") && text.contains("second") && text.contains("third"), "{text}");
    }

    #[test]
    fn a_filter_that_cannot_be_read_is_refused_with_an_example() {
        for filter in ["", "  ", "a=b=c", "outrigger=loud", &"a".repeat(MAX_FILTER_BYTES + 1)] {
            let error = parse_filter(filter).unwrap_err().to_string();
            assert!(error.contains("outrigger_proxy=debug"), "{error}");
        }
    }
}
