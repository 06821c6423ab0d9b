//! How some endpoints share requests by weight: prepared when endpoints change, so that drawing allocates nothing.

use std::ops::Range;

/// The longest order of weighted round robin, in turns; weights are scaled to fit.
const MAX_TURNS: usize = 4096;

/// The weights of the candidates in a range, which is never empty once it is asked.
#[derive(Debug, Default)]
pub(super) struct Shares {
    range: Range<usize>,
    /// As configured; empty when all weigh the same.
    weights: Vec<u32>,
    /// Their running sums; empty when all weigh the same.
    cumulative: Vec<u64>,
    mean_weight: f64,
    /// The order of weighted round robin; empty when all weigh the same.
    schedule: Vec<u32>,
}

impl Shares {
    /// Of the candidates from `start` on that have these weights.
    pub(super) fn new(start: usize, weights: &[u32]) -> Self {
        let range = start..start + weights.len();
        let weights: Vec<u32> = weights.iter().map(|weight| (*weight).max(1)).collect();
        let total: u64 = weights.iter().map(|weight| u64::from(*weight)).sum();
        let mean_weight = total as f64 / weights.len().max(1) as f64;
        let even = weights.windows(2).all(|pair| pair[0] == pair[1]);
        if even {
            return Self { range, mean_weight, ..Self::default() };
        }
        let (cumulative, schedule) = (running_sums(&weights), turns(&weights, total));
        Self { range, weights, cumulative, mean_weight, schedule }
    }

    /// Whose weights these are.
    pub(super) fn range(&self) -> Range<usize> {
        self.range.clone()
    }

    pub(super) fn weigh_evenly(&self) -> bool {
        self.cumulative.is_empty()
    }

    /// The weight of a candidate of the range, 1 being the mean.
    pub(super) fn relative_weight(&self, index: usize) -> f64 {
        match self.weights.get(index - self.range.start) {
            Some(weight) => f64::from(*weight) / self.mean_weight,
            None => 1.0,
        }
    }

    /// A candidate by weight.
    pub(super) fn draw(&self, rng: &mut fastrand::Rng) -> usize {
        match self.cumulative.last() {
            None => rng.usize(self.range.clone()),
            Some(total) => {
                let point = rng.u64(..*total);
                self.range.start + self.cumulative.partition_point(|sum| *sum <= point)
            }
        }
    }

    /// The candidate of a turn of round robin.
    pub(super) fn at_turn(&self, turn: usize) -> usize {
        let place = match self.schedule.len() {
            0 => turn % self.range.len(),
            turns => self.schedule[turn % turns] as usize,
        };
        self.range.start + place
    }

    /// After so many turns every candidate had one.
    pub(super) fn turns(&self) -> usize {
        self.schedule.len().max(self.range.len())
    }
}

fn running_sums(weights: &[u32]) -> Vec<u64> {
    let mut sum = 0;
    weights.iter().map(|weight| (sum += u64::from(*weight), sum).1).collect()
}

/// Spreads the turns of each endpoint evenly: its k-th turn comes at (k + 1/2) / weight.
fn turns(weights: &[u32], total: u64) -> Vec<u32> {
    let bound = MAX_TURNS.max(weights.len()) as u64;
    let scale = |weight: u64| if total <= bound { weight } else { (weight * bound / total).max(1) };
    let mut turns: Vec<(f64, u32)> = Vec::new();
    for (index, weight) in weights.iter().enumerate() {
        let share = scale(u64::from(*weight));
        turns.extend((0..share).map(|k| ((k as f64 + 0.5) / share as f64, index as u32)));
    }
    turns.sort_by(|a, b| a.0.total_cmp(&b.0));
    turns.into_iter().map(|(_, index)| index).collect()
}
