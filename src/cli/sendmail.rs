//! The command line of `sendmail`, as programs have written it for forty years: `pipit send` and the name `sendmail`.
//!
//! Pure: argv in, a `Task` or a complaint out. Options are letters with values glued or behind them, and may be grouped, as
//! getopt(3) reads them; which letters take a value is what Postfix and sendmail agree about. What only tunes another mail
//! system (`-o…`, `-B`, `-O`, `-v`, …) is accepted and means nothing, because cron and mailers write it without asking.
//! Not done here: reading the message, and what an address means.

/// Letters whose value is the rest of the word, or the next word.
const WITH_VALUE: &str = "ABCFLNORVXbefhopr";
/// Letters whose value can only be glued: alone they have none.
const GLUED_ONLY: &str = "dqM";
/// Letters without a value that change nothing here.
const IDLE: &str = "GUcmnvsxE";

/// By which name we were called; it decides about exit statuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `pipit send`: 0, 1 or 2
    Pipit,
    /// `sendmail`: those of sysexits.h
    Sendmail,
}

/// What a command line asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    Send(Sending),
    /// `-bp`, and the name `mailq`
    ListQueue,
    /// `-bi`, and the name `newaliases`: there is no table of aliases to rebuild
    Nothing,
}

/// A message to hand in. Addresses are as written: `root` is one, until the server knows better.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sending {
    pub dialect: Dialect,
    /// `-f`, `-r`; `<>` and the empty word are the null path
    pub from: Option<String>,
    /// `-F`: the name beside the address, if the message brings no From
    pub name: Option<String>,
    pub to: Vec<String>,
    pub recipients: Recipients,
    pub end: End,
    /// `-N`: NOTIFY of RFC 3461 for all recipients
    pub notify: Option<String>,
    /// `-R`: RET
    pub ret: Option<String>,
    /// `-V`: ENVID
    pub envid: Option<String>,
    pub tls: TlsWish,
    /// `-C`: the configuration file
    pub config: Option<String>,
}

/// Where recipients are named.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recipients {
    OnTheLine,
    /// `-t`: also in To, Cc and Bcc
    InTheHeader,
}

/// What ends the message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// a line with nothing but a dot, or the end of the input
    LoneDot,
    /// `-i`, `-oi`: the end of the input only
    Input,
}

/// What the sender asks about TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TlsWish {
    Default,
    /// `--tls-not-required`: the field `TLS-Required: No` (RFC 8689)
    Waived,
}

/// Why a line is not obeyed; sentences, the second says what to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Complaint {
    pub error: String,
    pub hint: &'static str,
    pub fault: Fault,
}

/// Whose fault it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    Usage,
    /// well said, but this version cannot do it
    NotYet,
}

const SEE_HELP: &str = "`pipit send --help` shows the options";

fn usage(error: String) -> Complaint {
    Complaint { error, hint: SEE_HELP, fault: Fault::Usage }
}

fn not_yet(error: &str, hint: &'static str) -> Complaint {
    Complaint { error: error.to_owned(), hint, fault: Fault::NotYet }
}

/// Parses what stands behind the name of the program (or behind `pipit send`).
pub fn parse(dialect: Dialect, argv: &[String]) -> Result<Task, Complaint> {
    let mut line = Line::new(dialect);
    let mut words = argv.iter();
    while let Some(word) = words.next() {
        if word == "--" {
            line.sending.to.extend(words.cloned());
            break;
        }
        if let Some(option) = word.strip_prefix("--") {
            line.long(option)?;
        } else if let Some(letters) = word.strip_prefix('-').filter(|letters| !letters.is_empty()) {
            line.letters(letters, &mut words)?;
        } else {
            line.sending.to.push(word.clone());
        }
    }
    line.finish()
}

/// A line while it is read.
struct Line {
    sending: Sending,
    mode: Mode,
}

/// `-b`.
enum Mode {
    Deliver,
    ListQueue,
    Nothing,
}

impl Line {
    fn new(dialect: Dialect) -> Line {
        let sending = Sending {
            dialect,
            from: None,
            name: None,
            to: Vec::new(),
            recipients: Recipients::OnTheLine,
            end: End::LoneDot,
            notify: None,
            ret: None,
            envid: None,
            tls: TlsWish::Default,
            config: None,
        };
        Line { sending, mode: Mode::Deliver }
    }

    fn long(&mut self, option: &str) -> Result<(), Complaint> {
        match option {
            "tls-not-required" => self.sending.tls = TlsWish::Waived,
            "require-tls" => {
                let hint = "leave the option out: the message then goes encrypted wherever the other side can";
                return Err(not_yet("this version cannot yet promise verified TLS all the way, so nothing was sent", hint));
            }
            // sendmail implementations know a few of their own; a message is worth more than a complaint about them.
            _ if self.sending.dialect == Dialect::Sendmail => {}
            _ => return Err(usage(format!("there is no option --{option}"))),
        }
        Ok(())
    }

    /// One word of options: `-ti`, `-fann@x`, `-f` and its value in the next word.
    fn letters<'w>(&mut self, letters: &str, words: &mut impl Iterator<Item = &'w String>) -> Result<(), Complaint> {
        for (at, letter) in letters.char_indices() {
            let rest = &letters[at + letter.len_utf8()..];
            if GLUED_ONLY.contains(letter) {
                return Ok(());
            }
            if WITH_VALUE.contains(letter) {
                let value = if rest.is_empty() { words.next().map(String::as_str) } else { Some(rest) };
                return self.valued(letter, value.ok_or_else(|| usage(format!("-{letter} needs a value behind it")))?);
            }
            match letter {
                't' => self.sending.recipients = Recipients::InTheHeader,
                'i' => self.sending.end = End::Input,
                'I' => self.mode = Mode::Nothing,
                letter if IDLE.contains(letter) => {}
                letter => return Err(usage(format!("there is no option -{letter}"))),
            }
        }
        Ok(())
    }

    fn valued(&mut self, letter: char, value: &str) -> Result<(), Complaint> {
        let kept = Some(value.to_owned());
        match letter {
            'f' | 'r' => self.sending.from = kept,
            'F' => self.sending.name = kept,
            'N' => self.sending.notify = kept,
            'R' => self.sending.ret = kept,
            'V' => self.sending.envid = kept,
            'C' => self.sending.config = kept,
            'o' if value == "i" => self.sending.end = End::Input,
            'b' => return self.mode(value),
            // -A, -B, -L, -O, -X, -e, -h, -o…, -p: the mail system's own business.
            _ => {}
        }
        Ok(())
    }

    fn mode(&mut self, mode: &str) -> Result<(), Complaint> {
        self.mode = match mode {
            "m" => Mode::Deliver,
            "p" => Mode::ListQueue,
            "i" => Mode::Nothing,
            "s" => {
                let hint = "hand the message in on standard input, or speak SMTP to the submission port";
                return Err(not_yet("SMTP on standard input (-bs) is not offered", hint));
            }
            other => {
                return Err(not_yet(
                    &format!("the mode -b{other} is not offered"),
                    "`pipit serve` is the server; without -b a message is sent",
                ));
            }
        };
        Ok(())
    }

    fn finish(self) -> Result<Task, Complaint> {
        match self.mode {
            Mode::ListQueue => return Ok(Task::ListQueue),
            Mode::Nothing => return Ok(Task::Nothing),
            Mode::Deliver => {}
        }
        if self.sending.to.is_empty() && self.sending.recipients == Recipients::OnTheLine {
            return Err(usage("no recipient is named: neither on the command line, nor -t to take those of the header".into()));
        }
        Ok(Task::Send(self.sending))
    }
}

#[cfg(test)]
mod tests;
