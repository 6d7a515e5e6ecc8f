//! How values are spread, counted without a lock: whoever counts adds to three numbers
//! at most, and waits for nobody. Who reads may see one of them a moment before another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Counts of whole values, by upper bounds. Clones count into the same.
#[derive(Clone, Debug)]
pub struct Histogram(Arc<Counts>);

#[derive(Debug)]
struct Counts {
    bounds: &'static [u64],
    /// One for each bound, and one for what is above all of them.
    counts: Vec<AtomicU64>,
    sum: AtomicU64,
}

/// What was counted so far.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Upper bounds and how many values lie below, above the bound before; the last
    /// has none.
    pub buckets: Vec<(Option<u64>, u64)>,
    /// All values together.
    pub sum: u64,
}

impl Histogram {
    /// Nothing counted yet; `bounds` rise, and belong to what they bound.
    pub fn new(bounds: &'static [u64]) -> Histogram {
        let counts = (0..=bounds.len()).map(|_| AtomicU64::new(0)).collect();
        Histogram(Arc::new(Counts { bounds, counts, sum: AtomicU64::new(0) }))
    }

    /// Counts one value.
    pub fn observe(&self, value: u64) {
        let bucket = self.0.bounds.partition_point(|bound| *bound < value);
        if let Some(count) = self.0.counts.get(bucket) {
            count.fetch_add(1, Ordering::Relaxed);
        }
        self.0.sum.fetch_add(value, Ordering::Relaxed);
    }

    /// What was counted so far.
    pub fn read(&self) -> Reading {
        let bounds = self.0.bounds.iter().copied().map(Some).chain([None]);
        let counts = self.0.counts.iter().map(|count| count.load(Ordering::Relaxed));
        Reading { buckets: bounds.zip(counts).collect(), sum: self.0.sum.load(Ordering::Relaxed) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_belongs_to_the_first_bound_that_is_not_below_it() {
        let histogram = Histogram::new(&[1, 10]);
        let counter = histogram.clone();
        for value in [0, 1, 2, 10, 11, 1000] {
            counter.observe(value);
        }
        let buckets = vec![(Some(1), 2), (Some(10), 2), (None, 2)];
        assert_eq!(histogram.read(), Reading { buckets, sum: 1024 });
    }
}
