//! Charts as plain SVG: horizontal bars with the range of the rounds as whiskers, readable on a light and on a dark
//! page, and without colours. They know nothing of what is measured.

use std::fmt::Write;

use crate::figures::Spread;

/// Bars that share a scale.
#[derive(Debug)]
pub(super) struct Panel {
    pub(super) title: String,
    pub(super) bars: Vec<Bar>,
}

/// One bar.
#[derive(Debug)]
pub(super) struct Bar {
    pub(super) label: String,
    pub(super) tone: Tone,
    pub(super) spread: Spread,
    /// What is written behind it.
    pub(super) text: String,
}

/// What a bar stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tone {
    /// Whom the report is about.
    Ours,
    /// Whom it is compared with.
    Peer,
    /// What nobody goes below, or should not go above.
    Mark,
}

/// All lengths are in pixels of the image.
const WIDTH: usize = 760;
const MARGIN: usize = 16;
/// Where bars begin; labels end a little before.
const BARS_AT: usize = 120;
/// How long the longest bar is, with its whisker.
const BARS_WIDE: usize = 420;
const ROW: usize = 26;
const BAR_HIGH: usize = 16;
const HEADING: usize = 30;
/// Half the height of the ends of a whisker.
const WHISKER: usize = 4;

const STYLE: &str = "\
text{font:13px system-ui,sans-serif;fill:#1f2328}.title{font-weight:600;font-size:15px}.page{fill:#fff}\
.ours{fill:#0969da}.peer{fill:#9198a1}.mark{fill:none;stroke:#59636e;stroke-dasharray:4 2}\
.range{fill:none;stroke:#1f2328;stroke-width:1.5}.axis{stroke:#9198a1}\
@media(prefers-color-scheme:dark){text{fill:#f0f6fc}.page{fill:#0d1117}.ours{fill:#4493f8}.peer{fill:#656c76}\
.mark{stroke:#9198a1}.range{stroke:#f0f6fc}.axis{stroke:#656c76}}";

/// The image. Panels stand below each other, each with its own scale from zero.
pub(super) fn svg(title: &str, panels: &[Panel]) -> String {
    let rows: usize = panels.iter().map(|panel| HEADING + panel.bars.len() * ROW).sum();
    let height = MARGIN + HEADING + rows + MARGIN;
    let title = escaped(title);
    let mut image = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" viewBox=\"0 0 {WIDTH} {height}\" \
         role=\"img\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         <rect class=\"page\" width=\"{WIDTH}\" height=\"{height}\"/>\n\
         <text class=\"title\" x=\"{MARGIN}\" y=\"{}\">{title}</text>\n",
        MARGIN + BAR_HIGH
    );
    let mut top = MARGIN + HEADING;
    for panel in panels {
        image.push_str(&drawn(panel, top));
        top += HEADING + panel.bars.len() * ROW;
    }
    image + "</svg>\n"
}

/// One panel whose upper edge is at `top`.
fn drawn(panel: &Panel, top: usize) -> String {
    let most = panel.bars.iter().map(|bar| bar.spread.high).fold(0.0, f64::max);
    let scale = if most > 0.0 { BARS_WIDE as f64 / most } else { 0.0 };
    let first = top + HEADING;
    let last = first + panel.bars.len() * ROW;
    let mut text = format!(
        "<text x=\"{MARGIN}\" y=\"{}\">{} (less is better)</text>\n\
         <line class=\"axis\" x1=\"{BARS_AT}\" y1=\"{first}\" x2=\"{BARS_AT}\" y2=\"{last}\"/>\n",
        first - 10,
        escaped(&panel.title)
    );
    for (index, bar) in panel.bars.iter().enumerate() {
        text.push_str(&bar.drawn(first + index * ROW, scale));
    }
    text
}

impl Bar {
    /// Its row has its upper edge at `top`; `scale` is pixels for one.
    fn drawn(&self, top: usize, scale: f64) -> String {
        let Spread { median, low, high } = self.spread;
        // A figure below zero, which noise can make of a difference, has no length.
        let length = |value: f64| value.max(0.0) * scale;
        let x = |value: f64| BARS_AT as f64 + length(value);
        let edge = top + (ROW - BAR_HIGH) / 2;
        let middle = top + ROW / 2;
        let mut row = format!(
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\n\
             <rect class=\"{}\" x=\"{BARS_AT}\" y=\"{edge}\" width=\"{:.1}\" height=\"{BAR_HIGH}\"/>\n",
            BARS_AT - 8,
            middle + 5,
            escaped(&self.label),
            self.tone.class(),
            length(median),
        );
        if high > low {
            // Writing to a string cannot fail.
            let _ = writeln!(
                row,
                "<path class=\"range\" d=\"M{:.1} {middle}H{:.1}M{0:.1} {}V{}M{1:.1} {2}V{3}\"/>",
                x(low),
                x(high),
                middle - WHISKER,
                middle + WHISKER,
            );
        }
        let _ = writeln!(
            row,
            "<text x=\"{:.1}\" y=\"{}\">{}</text>",
            x(high.max(median)) + 8.0,
            middle + 5,
            escaped(&self.text)
        );
        row
    }
}

impl Tone {
    fn class(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::Peer => "peer",
            Self::Mark => "mark",
        }
    }
}

/// Text that cannot be taken for markup.
fn escaped(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut escaped, c| {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            // No XML document may contain these, escaped or not (XML 1.0, "Char").
            c if c.is_control() && !matches!(c, '\t' | '\n' | '\r') => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
        escaped
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bar(label: &str, tone: Tone, figures: &[f64]) -> Bar {
        let spread = Spread::of(figures.iter().copied()).unwrap();
        Bar { label: label.to_owned(), tone, spread, text: format!("{:.1}", spread.median) }
    }

    #[test]
    fn bars_are_as_long_as_their_figures_and_whiskers_as_wide_as_their_ranges() {
        let bars = vec![bar("Outrigger", Tone::Ours, &[10.0]), bar("Envoy", Tone::Peer, &[30.0, 20.0, 40.0])];
        let image = svg("S1", &[Panel { title: "CPU µs".to_owned(), bars }]);
        assert_eq!(
            image.split_once("<text class=\"title\"").unwrap().1,
            r##" x="16" y="32">S1</text>
<text x="16" y="66">CPU µs (less is better)</text>
<line class="axis" x1="120" y1="76" x2="120" y2="128"/>
<text x="112" y="94" text-anchor="end">Outrigger</text>
<rect class="ours" x="120" y="81" width="105.0" height="16"/>
<text x="233.0" y="94">10.0</text>
<text x="112" y="120" text-anchor="end">Envoy</text>
<rect class="peer" x="120" y="107" width="315.0" height="16"/>
<path class="range" d="M330.0 115H540.0M330.0 111V119M540.0 111V119"/>
<text x="548.0" y="120">30.0</text>
</svg>
"##
        );
        assert!(
            image.starts_with("<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"760\" height=\"144\""),
            "{image}"
        );
    }

    #[test]
    fn markup_in_a_text_stays_text() {
        let bars = vec![bar("<b>&\"'\u{1}", Tone::Mark, &[1.0])];
        let image = svg("a < b", &[Panel { title: "x > y".to_owned(), bars }]);
        for text in ["<title>a &lt; b</title>", "x &gt; y (less", ">&lt;b&gt;&amp;&quot;&#39;\u{fffd}<"] {
            assert!(image.contains(text), "{text} is not in {image}");
        }
    }

    #[test]
    fn nothing_and_less_than_nothing_have_no_length() {
        for figures in [[0.0, 0.0], [-5.0, -1.0]] {
            let image = svg("", &[Panel { title: String::new(), bars: vec![bar("", Tone::Ours, &figures)] }]);
            assert!(image.contains("width=\"0.0\""), "{image}");
            assert!(!image.contains("NaN") && !image.contains("inf"), "{image}");
        }
    }
}
