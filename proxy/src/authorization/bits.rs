//! Sets of lines.

const WORD_BITS: usize = u64::BITS as usize;

/// Some of the lines of a set, a bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bits(Box<[u64]>);

impl Bits {
    /// Those of `count` lines for which `has` says so.
    pub(super) fn of(count: usize, has: impl Fn(usize) -> bool) -> Self {
        let mut words = vec![0; count.div_ceil(WORD_BITS)];
        for line in (0..count).filter(|line| has(*line)) {
            words[line / WORD_BITS] |= 1 << (line % WORD_BITS);
        }
        Self(words.into())
    }

    pub(super) fn has(&self, line: usize) -> bool {
        self.0.get(line / WORD_BITS).is_some_and(|word| word & (1 << (line % WORD_BITS)) != 0)
    }

    /// The first line from `from` on that is in this and both other sets, and about which `is_one` says so.
    pub(super) fn first_of_all(
        &self,
        others: (&Self, &Self),
        from: usize,
        is_one: impl Fn(usize) -> bool,
    ) -> Option<usize> {
        for place in from / WORD_BITS..self.0.len() {
            let mut word = self.0[place] & others.0.0[place] & others.1.0[place];
            if place == from / WORD_BITS {
                word &= u64::MAX << (from % WORD_BITS);
            }
            while word != 0 {
                let line = place * WORD_BITS + word.trailing_zeros() as usize;
                if is_one(line) {
                    return Some(line);
                }
                word &= word - 1;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_line_in_all_three_is_found_across_words() {
        let all = Bits::of(200, |_| true);
        let some = Bits::of(200, |line| matches!(line, 3 | 63 | 64 | 130 | 199));
        let from = |from, not: usize| some.first_of_all((&all, &all), from, |line| line != not);
        assert_eq!((from(0, 3), from(3, 200), from(4, 200)), (Some(63), Some(3), Some(63)));
        assert_eq!(
            (from(64, 200), from(65, 130), from(199, 200), from(199, 199)),
            (Some(64), Some(199), Some(199), None)
        );
        assert_eq!((from(200, 0), from(1000, 0)), (None, None));
        assert!(some.has(130) && !some.has(129) && !some.has(1000));
        assert_eq!(Bits::of(0, |_| true).first_of_all((&all, &all), 0, |_| true), None);
    }
}
