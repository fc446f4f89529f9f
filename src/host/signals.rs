//! What people and supervisors ask by signal. Start it after the sandbox: it is a first use of the event loop's thread.

use std::io;

use smol::stream::StreamExt;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM: finish what runs, then end.
    Terminate,
    /// SIGINT, Ctrl-C: as SIGTERM.
    Interrupt,
    /// SIGHUP: read the configuration and the certificates again.
    Reload,
}

/// The signals as they come; from its making on they no longer end the process.
pub struct Signals(async_signal::Signals);

impl Signals {
    pub fn new() -> io::Result<Signals> {
        use async_signal::Signal as Kernel;
        Ok(Signals(async_signal::Signals::new([Kernel::Term, Kernel::Int, Kernel::Hup])?))
    }

    /// The next signal.
    pub async fn next(&mut self) -> io::Result<Signal> {
        loop {
            match self.0.next().await {
                Some(Ok(async_signal::Signal::Term)) => return Ok(Signal::Terminate),
                Some(Ok(async_signal::Signal::Int)) => return Ok(Signal::Interrupt),
                Some(Ok(async_signal::Signal::Hup)) => return Ok(Signal::Reload),
                // Nothing else was asked for.
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error),
                None => return Err(io::ErrorKind::UnexpectedEof.into()),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rustix::process::Signal as Kernel;
    use rustix::process::getpid;
    use rustix::process::kill_process;

    use super::*;

    #[test]
    fn the_three_signals_arrive_instead_of_ending_the_process() {
        let mut signals = Signals::new().unwrap();
        for (sent, expected) in [(Kernel::TERM, Signal::Terminate), (Kernel::INT, Signal::Interrupt), (Kernel::HUP, Signal::Reload)] {
            kill_process(getpid(), sent).unwrap();
            assert_eq!(smol::future::block_on(signals.next()).unwrap(), expected);
        }
    }
}
