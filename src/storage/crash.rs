//! Points at which a process can be told to end at once, between the steps that make something durable: for the fault tests,
//! which start nodes that do so and see what they find when they start again.

use crate::mutants;

/// Ends the process if it was told to end at this pass of `point`, one of [`mutants::CRASH_POINTS`]. Nothing is flushed and nobody
/// told, as if it were killed here. Costs nothing in a build without mutants.
pub(crate) fn at(point: &str) {
    if mutants::strikes(point) {
        tracing::error!("crash point {point}: this process ends here, as it was told to");
        std::process::abort();
    }
}
