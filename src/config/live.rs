//! The settings in force: replaced as a whole by a reload, read by everyone else.
//!
//! A session takes `current()` when it begins something and keeps that `Rc`, so that one message is judged by one set
//! of settings. A file with faults never gets here: the last good settings stay, the faults are kept for `status`.

use std::cell::RefCell;
use std::rc::Rc;

use crate::config::fault::Fault;
use crate::config::settings::Settings;

/// Shared by `Rc`; no borrow outlives a call.
pub struct Live {
    settings: RefCell<Rc<Settings>>,
    faults: RefCell<Vec<Fault>>,
}

impl Live {
    pub fn new(settings: Settings) -> Live {
        Live { settings: RefCell::new(Rc::new(settings)), faults: RefCell::default() }
    }

    pub fn current(&self) -> Rc<Settings> {
        Rc::clone(&self.settings.borrow())
    }

    /// The new settings hold from now on; faults of an earlier attempt are forgotten.
    pub fn replace(&self, settings: Settings) {
        *self.settings.borrow_mut() = Rc::new(settings);
        self.faults.borrow_mut().clear();
    }

    /// A file that could not be used; the settings stay.
    pub fn refuse(&self, faults: Vec<Fault>) {
        *self.faults.borrow_mut() = faults;
    }

    /// Faults of the file as it is now; empty when the settings in force are those of the file.
    pub fn faults(&self) -> Vec<Fault> {
        self.faults.borrow().clone()
    }
}
