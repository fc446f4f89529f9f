//! Whether an upstream is fit for DNSSEC: a verdict with complaints in words.

/// What probes have shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Fitness {
    #[default]
    Unknown,
    Fit,
    /// complaints, each behind "it"
    Unfit(Vec<String>),
}
