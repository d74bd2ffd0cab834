//! How busy the machine is.

use std::fs;
use std::thread;

/// Names the variable that tells a child the factor by which its timeouts are longer.
pub(crate) const SLOWDOWN: &str = "PYO3_SYNC_SUITE_SLOWDOWN";

/// More than this does not help: a test that hangs must fail in a few minutes.
const MOST: u32 = 16;

/// Returns the factor by which everything takes longer because processes share the processors, at
/// least 1. Only Linux says how many processes want to run.
pub(crate) fn slowdown() -> u32 {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    let processors = thread::available_parallelism().map_or(1, |number| number.get());
    factor(&text, processors)
}

/// `text` is that of `/proc/loadavg`: averages of 1, 5 and 15 minutes, and `running/all` now.
fn factor(text: &str, processors: usize) -> u32 {
    let mut fields = text.split_whitespace();
    let average = fields.next().and_then(|field| field.parse::<f64>().ok());
    let running = fields.nth(2).and_then(|field| field.split('/').next());
    let running = running.and_then(|field| field.parse::<f64>().ok());
    let wanted = average.unwrap_or(0.0).max(running.unwrap_or(0.0));
    let factor = (wanted / processors as f64).ceil();
    (factor as u32).clamp(1, MOST)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quiet_machine_takes_no_longer() {
        assert_eq!(factor("0.10 0.20 0.30 1/100 4711\n", 2), 1);
    }

    #[test]
    fn processes_that_share_processors_take_longer() {
        assert_eq!(factor("0.10 0.20 0.30 18/100 4711\n", 2), 9);
        assert_eq!(factor("7.50 0.20 0.30 1/100 4711\n", 2), 4);
        assert_eq!(factor("900.0 0.20 0.30 1/100 4711\n", 2), MOST);
    }

    #[test]
    fn an_unknown_load_counts_as_none() {
        assert_eq!(factor("", 2), 1);
    }
}
