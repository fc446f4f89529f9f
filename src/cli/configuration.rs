//! `pipit config …`: works on the file alone, with or without a server.

use crate::admin::Failure;
use crate::admin::history;
use crate::admin::settings::check_all;
use crate::admin::settings::read_file;
use crate::admin::settings::sentences;
use crate::cli::args::Globals;
use crate::cli::place;
use crate::config::diff;
use crate::config::explain;
use crate::config::explain::Origin;
use crate::config::fault::Fault;

use nanoserde::SerJson;

/// One fault or one effective setting for `--json`.
#[derive(SerJson)]
struct FaultRow {
    line: u64,
    key: String,
    what: String,
    right: String,
}

#[derive(SerJson)]
struct SettingRow {
    key: String,
    value: String,
    origin: String,
}

/// All faults of the file; exit status 1 if there is one.
pub fn check(globals: &Globals) -> Result<(), Failure> {
    let file = place::file(globals)?;
    let Err(faults) = check_all(&read_file(&file)?) else {
        if !globals.json {
            println!("{}: no faults", file.display());
        }
        return Ok(());
    };
    for fault in &faults {
        println!("{}", if globals.json { fault_row(fault) } else { fault.to_string() });
    }
    let noun = if faults.len() == 1 { "fault" } else { "faults" };
    Err(Failure::new(format!("{} {noun} in {}", faults.len(), file.display()), "`pipit config explain KEY` tells what a key means"))
}

fn fault_row(fault: &Fault) -> String {
    let row = FaultRow { line: fault.line as u64, key: fault.key.clone(), what: fault.what.clone(), right: fault.right.clone() };
    row.serialize_json()
}

fn text(globals: &Globals) -> Result<String, Failure> {
    let file = place::file(globals)?;
    String::from_utf8(read_file(&file)?).map_err(|_| Failure::new(format!("{} is not UTF-8", file.display()), "save it as UTF-8"))
}

/// Every effective setting and where it comes from.
pub fn show(globals: &Globals) -> Result<(), Failure> {
    let shown = explain::show(&text(globals)?).map_err(|faults| Failure::new(sentences(&faults), "mend these lines first"))?;
    for setting in shown {
        if globals.json {
            let origin = match setting.origin {
                Origin::Line(line) => format!("line {line}"),
                Origin::Default => "default".to_string(),
            };
            println!("{}", SettingRow { key: setting.key, value: setting.value, origin }.serialize_json());
        } else {
            println!("{setting}");
        }
    }
    Ok(())
}

pub fn explain_key(key: &str) -> Result<(), Failure> {
    let text = explain::explain(key).map_err(|fault| Failure::new(fault.what, fault.right))?;
    println!("{text}");
    Ok(())
}

pub fn reference() {
    println!("{}", explain::reference());
}

/// What a reload would change: the file against the version that came into force last.
pub fn show_diff(globals: &Globals) -> Result<(), Failure> {
    let place = place::find(globals)?;
    let Some(old) = history::newest(&place.dir) else {
        return Err(Failure::new("no version of this configuration has been in force yet", "start the server, or see `pipit config show`"));
    };
    print!("{}", diff::unified(&old, &text(globals)?));
    Ok(())
}
