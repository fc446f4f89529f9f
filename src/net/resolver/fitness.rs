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

impl crate::net::resolver::Resolver {
    pub(super) fn suspect(&self, _address: &crate::proto::dns::upstream::UpstreamAddress) {}

    pub(super) fn is_unfit(&self, _address: &crate::proto::dns::upstream::UpstreamAddress) -> Option<String> {
        None
    }
}
