//! Quantities as Kubernetes writes them: `100m`, `1.5`, `64Mi`, `2e3`.

/// What a suffix stands for.
const SUFFIXES: [(&str, f64); 15] = [
    ("n", 1e-9),
    ("u", 1e-6),
    ("m", 1e-3),
    ("k", 1e3),
    ("M", 1e6),
    ("G", 1e9),
    ("T", 1e12),
    ("P", 1e15),
    ("E", 1e18),
    ("Ki", 1_024.0),
    ("Mi", 1_048_576.0),
    ("Gi", 1_073_741_824.0),
    ("Ti", 1_099_511_627_776.0),
    ("Pi", 1_125_899_906_842_624.0),
    ("Ei", 1_152_921_504_606_846_976.0),
];

/// The longest quantity that is taken, in bytes.
const MAX_LENGTH_BYTES: usize = 64;

/// The amount, good enough to compare two; `None` when it is no quantity above zero.
pub(super) fn amount(text: &str) -> Option<f64> {
    if text.len() > MAX_LENGTH_BYTES {
        return None;
    }
    let suffix = text.trim_start_matches(|c: char| c.is_ascii_digit() || c == '.');
    let digits = &text[..text.len() - suffix.len()];
    let number: f64 = digits.parse().ok()?;
    let factor = match suffix {
        "" => 1.0,
        _ => SUFFIXES
            .iter()
            .find(|(known, _)| *known == suffix)
            .map(|(_, factor)| *factor)
            .or_else(|| exponent(suffix))?,
    };
    Some(number * factor).filter(|amount| amount.is_finite() && *amount > 0.0)
}

fn exponent(suffix: &str) -> Option<f64> {
    let power: i8 = suffix.strip_prefix(['e', 'E'])?.parse().ok()?;
    Some(10_f64.powi(power.into()))
}

#[cfg(test)]
mod tests {
    use super::amount;

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, want) in [
            ("1", 1.0),
            ("1.5", 1.5),
            ("250m", 0.25),
            ("64Mi", 67_108_864.0),
            ("1k", 1000.0),
            ("2e3", 2000.0),
            (".5", 0.5),
        ] {
            assert_eq!(amount(text), Some(want), "{text}");
        }
        for text in ["", "m", "0", "-1", "1 Mi", "1mi", "64MB", "1e", "1.2.3", "NaN", "inf", "1e127Ki", "é"]
        {
            assert_eq!(amount(text), None, "{text}");
        }
    }
}
