//! Changes to the text of `pipit.toml` that leave every other byte as it was: comments, order, CRLF, BOM, blanks.
//!
//! Values are replaced at their place in the text instead of writing the parsed form anew (which loses CRLF and BOM).
//! Every edit is read back before it is given out: nothing else may have changed its meaning, and no fault may have
//! been added. A text with syntax errors is not edited at all.

use std::ops::Range;

use crate::config::check;
use crate::config::fault::Fault;
use crate::config::fault::shown;
use crate::config::file;
use crate::config::file::BOM;
use crate::config::file::Block;
use crate::config::file::Form;
use crate::config::file::Pair;
use crate::config::file::Value;
use crate::config::file::Written;
use crate::config::file::quoted;
use crate::config::keys;
use crate::config::keys::Key;
use crate::config::value;
use crate::mail::address::Address;
use crate::mail::date::UnixTime;

/// Characters of a date in RFC 3339 form.
const DATE_LENGTH: usize = 10;

/// Sets a key that is not part of a block. `words` as on a command line: `300`, `35M`, `off`, `192.0.2.0/24, ::1`.
pub fn set(text: &str, name: &str, words: &str) -> Result<String, Fault> {
    let key = keys::find(name).ok_or_else(|| check::unknown_key(0, name))?;
    if let Some(block) = key.block() {
        return Err(Fault::new(0, name, format!("stands in [[{block}]], of which there may be several"), "edit the file by hand"));
    }
    let written = sound(text)?;
    let toml = value::to_toml(key.kind, words);
    let meant = file::read_value(&toml).ok_or_else(|| Fault::new(0, name, "the value cannot be written", key.right()))?;
    value::understand(key, 0, &meant).map_err(first)?;
    let new = match written.pairs.iter().find(|pair| pair.key == name) {
        Some(pair) => splice(text, pair.place.clone(), &toml),
        None => insert(text, &written, key, &toml),
    };
    let kept = |pair: &&Pair| pair.key != name;
    verify(&new, |after| same_pairs(&written, after, kept) && same_blocks(&written, after, |_| true))?;
    no_new_faults(text, new)
}

/// Adds an alias behind the last one, or at the end.
pub fn add_alias(text: &str, address: &Address, to: &[Address]) -> Result<String, Fault> {
    let written = sound(text)?;
    if let Some(block) = alias_block(&written, address) {
        return Err(Fault::new(block.line, "alias.address", format!("{address} is an alias already"), "remove it first"));
    }
    let aliases = || written.blocks.iter().filter(|block| block.name == "alias");
    if aliases().any(|block| block.form == Form::Inline) {
        return Err(by_hand("alias"));
    }
    let (end, at) = (line_end_of(text), aliases().next_back().map_or(text.len(), |block| next_line(text, block.place.end)));
    let (address, to) = (quoted(&address.to_string()), value::list_to_toml(to.iter()));
    let block = format!("{end}[[alias]]{end}address = {address}{end}to = {to}{end}");
    let new = insert_lines(text, at, &block);
    verify(&new, |after| same_pairs(&written, after, |_| true) && after.blocks.len() == written.blocks.len() + 1)?;
    no_new_faults(text, new)
}

/// Removes the block of an alias, and the blank line before it.
pub fn remove_alias(text: &str, address: &Address) -> Result<String, Fault> {
    let written = sound(text)?;
    let Some(block) = alias_block(&written, address) else {
        return Err(Fault::new(0, "alias.address", format!("{address} is not an alias"), "`pipit alias list` shows all"));
    };
    if block.form == Form::Inline {
        return Err(by_hand("alias"));
    }
    let mut range = line_start(text, block.place.start)..next_line(text, block.place.end);
    range.start = without_blank_before(text, range.start);
    let new = splice(text, range, "");
    let line = block.line;
    let kept = |block: &&Block| block.line != line;
    verify(&new, |after| same_pairs(&written, after, |_| true) && same_blocks(&written, after, kept))?;
    no_new_faults(text, new)
}

/// Replaces every `[[first-user]]` block, with all that stands in it, by a comment with the date.
pub fn consume_first_user(text: &str, now: UnixTime) -> Result<String, Fault> {
    let written = sound(text)?;
    let mut date = now.to_string();
    date.truncate(DATE_LENGTH);
    let mut new = text.to_owned();
    // From the end, so that the places of the others stay true.
    for block in written.blocks.iter().rev().filter(|block| block.name == "first-user") {
        if block.form == Form::Inline {
            return Err(by_hand("first-user"));
        }
        let address = block.pairs.iter().find(|pair| pair.key == "first-user.address").map(|pair| &pair.value);
        let who = if let Some(Value::Text(address)) = address { shown(address) } else { "without address".to_owned() };
        let range = line_start(&new, block.place.start)..line_stop(&new, block.place.end);
        new = splice(&new, range, &format!("# first-user {who}: made on {date}"));
    }
    let kept = |block: &&Block| block.name != "first-user";
    verify(&new, |after| same_pairs(&written, after, |_| true) && same_blocks(&written, after, kept))?;
    no_new_faults(text, new)
}

/// The text without syntax errors, read.
fn sound(text: &str) -> Result<Written, Fault> {
    let mut written = file::read(text);
    if written.faults.is_empty() {
        return Ok(written);
    }
    Err(written.faults.swap_remove(0))
}

fn by_hand(block: &str) -> Fault {
    Fault::new(0, block, "is written as a list in braces, or spread over the file", "change it by hand")
}

fn first(mut faults: Vec<Fault>) -> Fault {
    faults.swap_remove(0)
}

fn alias_block<'a>(written: &'a Written, address: &Address) -> Option<&'a Block> {
    let wanted = address.folded();
    written.blocks.iter().filter(|block| block.name == "alias").find(|block| {
        let written = block.pairs.iter().find(|pair| pair.key == "alias.address").map(|pair| &pair.value);
        if let Some(Value::Text(text)) = written { Address::parse(text).is_ok_and(|address| address.folded() == wanted) } else { false }
    })
}

fn splice(text: &str, range: Range<usize>, new: &str) -> String {
    [&text[..range.start], new, &text[range.end..]].concat()
}

/// Whole lines at the start of a line, or at the end of a text whose last line may be unfinished.
fn insert_lines(text: &str, at: usize, lines: &str) -> String {
    let unfinished = at > 0 && !text[..at].ends_with('\n') && &text[..at] != BOM;
    let before = if unfinished { line_end_of(text) } else { "" };
    splice(text, at..at, &format!("{before}{lines}"))
}

/// The line end that the text uses.
fn line_end_of(text: &str) -> &'static str {
    if text.contains("\r\n") { "\r\n" } else { "\n" }
}

/// Start of the line, behind a BOM.
fn line_start(text: &str, at: usize) -> usize {
    let bom = if text.starts_with(BOM) { BOM.len() } else { 0 };
    text[..at].rfind('\n').map_or(bom, |end| end + 1)
}

/// End of the line, before its CR LF or LF.
fn line_stop(text: &str, at: usize) -> usize {
    let stop = text[at..].find('\n').map_or(text.len(), |length| at + length);
    if text[at..stop].ends_with('\r') { stop - 1 } else { stop }
}

fn next_line(text: &str, at: usize) -> usize {
    text[at..].find('\n').map_or(text.len(), |length| at + length + 1)
}

/// Where the blank line begins that ends at `at`; `at` itself if there is none.
fn without_blank_before(text: &str, at: usize) -> usize {
    let Some(stripped) = text[..at].strip_suffix('\n') else { return at };
    let start = line_start(text, stripped.len());
    if start < at && text[start..at].trim().is_empty() { start } else { at }
}

/// Writes a key that the text does not have yet, at the place where a person would look for it.
fn insert(text: &str, written: &Written, key: &Key, toml: &str) -> String {
    let end = line_end_of(text);
    let (section, leaf) = key.name.rsplit_once('.').unwrap_or(("", key.name));
    if let Some(region) = region(text, section) {
        let at = commented(text, region.clone(), leaf).unwrap_or_else(|| {
            let last = written.pairs.iter().rfind(|pair| region.contains(&pair.place.start));
            last.map_or(region.start, |pair| next_line(text, pair.place.end))
        });
        return insert_lines(text, at, &format!("{leaf} = {toml}{end}"));
    }
    let prefix = format!("{section}.");
    match written.pairs.iter().rfind(|pair| pair.key.starts_with(&prefix)) {
        Some(pair) if text[line_start(text, pair.place.start)..].trim_start().starts_with(&prefix) => {
            insert_lines(text, next_line(text, pair.place.end), &format!("{} = {toml}{end}", key.name))
        }
        // limits = { connections = 3 }
        Some(pair) => splice(text, pair.place.end..pair.place.end, &format!(", {leaf} = {toml}")),
        None => insert_lines(text, text.len(), &format!("{end}[{section}]{end}{leaf} = {toml}{end}")),
    }
}

/// The lines below `[section]` up to the next header; for the top of the file (an empty name) those before the first.
fn region(text: &str, section: &str) -> Option<Range<usize>> {
    let bom = if text.starts_with(BOM) { BOM.len() } else { 0 };
    let mut start = if section.is_empty() { Some(bom) } else { None };
    let mut at = bom;
    for line in text[bom..].split_inclusive('\n') {
        if line.trim_start().starts_with('[') {
            if let Some(start) = start {
                return Some(start..at);
            }
            let name = line.split('#').next().unwrap_or_default().trim();
            let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).map(str::trim);
            start = (name == Some(section)).then_some(at + line.len());
        }
        at += line.len();
    }
    start.map(|start| start..text.len())
}

/// Behind the comment that shows the key's default, as the template writes it.
fn commented(text: &str, region: Range<usize>, leaf: &str) -> Option<usize> {
    let mut at = region.start;
    for line in text[region].split_inclusive('\n') {
        at += line.len();
        let inner = line.trim_start().strip_prefix('#').map(str::trim_start);
        let is_key = |inner: &str| inner.strip_prefix(leaf).is_some_and(|rest| rest.trim_start().starts_with('='));
        if inner.is_some_and(is_key) {
            return Some(at);
        }
    }
    None
}

/// Reads the new text and asks whether it means what it should. Guards against a place that was guessed wrong.
fn verify(new: &str, holds: impl FnOnce(&Written) -> bool) -> Result<(), Fault> {
    let after = file::read(new);
    let failed = || Fault::new(0, "", "the file is written in a way that cannot be edited here", "change it by hand");
    if after.faults.is_empty() && holds(&after) { Ok(()) } else { Err(failed()) }
}

fn same_pairs(before: &Written, after: &Written, kept: impl Fn(&&Pair) -> bool) -> bool {
    let row = |pair: &Pair| (pair.key.clone(), pair.value.to_string(), format!("{:?}", without_lines(&pair.value)));
    let sorted = |written: &Written| {
        let mut rows: Vec<_> = written.pairs.iter().filter(&kept).map(row).collect();
        rows.sort();
        rows
    };
    sorted(before) == sorted(after)
}

/// `kept` is asked about the blocks before the edit.
fn same_blocks(before: &Written, after: &Written, kept: impl Fn(&&Block) -> bool) -> bool {
    let row = |block: &Block| {
        let pairs: Vec<(String, Value)> = block.pairs.iter().map(|pair| (pair.key.clone(), without_lines(&pair.value))).collect();
        (block.name.clone(), pairs)
    };
    before.blocks.iter().filter(kept).map(row).eq(after.blocks.iter().map(row))
}

/// Edits move lines; the values stay.
fn without_lines(value: &Value) -> Value {
    match value {
        Value::List(items) => Value::List(items.iter().map(|(_, item)| (0, without_lines(item))).collect()),
        other => other.clone(),
    }
}

/// An edit may leave faults that were there, but must not add one.
fn no_new_faults(old: &str, new: String) -> Result<String, Fault> {
    let Err(after) = check::check(&new) else { return Ok(new) };
    let before = check::check(old).err().unwrap_or_default();
    if after.len() <= before.len() {
        return Ok(new);
    }
    let is_old = |fault: &Fault| before.iter().any(|old| (&old.key, &old.what) == (&fault.key, &fault.what));
    let added = after.iter().find(|fault| !is_old(fault)).cloned();
    Err(added.unwrap_or_else(|| first(after)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\u{feff}# top\r\nhostname = 'm.example.org' # name\r\n\r\n[limits] # l\r\n# burst = 120\r\n# x\r\nconnections=200# c\r\n\r\n[[domain]]\r\nname = \"example.org\"\r\n";

    fn address(text: &str) -> Address {
        Address::parse(text).unwrap()
    }

    #[test]
    fn a_value_is_replaced_in_its_place() {
        assert_eq!(set(TEXT, "limits.connections", "300").unwrap(), TEXT.replace("=200#", "=300#"));
        assert_eq!(set(TEXT, "hostname", "mx.example.org").unwrap(), TEXT.replace("'m.example.org'", "\"mx.example.org\""));
    }

    #[test]
    fn a_new_key_goes_where_it_belongs() {
        let rows = [
            ("limits.burst", "60", "# burst = 120\r\n", "burst = 60\r\n"),
            ("limits.trusted", "::1", "connections=200# c\r\n", "trusted = [\"::1\"]\r\n"),
            ("dir", "/srv/mail", "# name\r\n", "dir = \"/srv/mail\"\r\n"),
            ("log.level", "debug", "name = \"example.org\"\r\n", "\r\n[log]\r\nlevel = \"debug\"\r\n"),
        ];
        for (key, words, before, inserted) in rows {
            assert_eq!(set(TEXT, key, words).unwrap(), TEXT.replace(before, &format!("{before}{inserted}")), "{key}");
        }
        let dotted = "hostname = \"m.x.org\"\nlimits.burst = 9\n[[domain]]\nname = \"x.org\"";
        assert!(set(dotted, "limits.connections", "99").unwrap().contains("burst = 9\nlimits.connections = 99\n[["));
        let inline = "hostname = \"m.x.org\"\nlimits = { burst = 9 }\n[[domain]]\nname = \"x.org\"";
        assert!(set(inline, "limits.connections", "99").unwrap().contains("{ burst = 9, connections = 99 }"));
        assert!(set(inline, "log.level", "warn").unwrap().ends_with("\"x.org\"\n\n[log]\nlevel = \"warn\"\n"));
    }

    #[test]
    fn what_would_be_a_fault_is_refused() {
        for (key, words, part) in [
            ("limits.conections", "3", "did you mean limits.connections?"),
            ("limits.connections", "many", "\"many\" is not a number"),
            ("postmaster", "ann@elsewhere.example", "elsewhere.example is not one of the domains"),
            ("tls.key", "/key.pem", "tls.certificate is missing beside it"),
            ("alias.to", "a@example.org", "stands in [[alias]]"),
        ] {
            let fault = set(TEXT, key, words).unwrap_err().to_string();
            assert!(fault.contains(part), "{fault}");
        }
        assert_eq!(set("a = \nhostname = \"x.org\"", "hostname", "y.org").unwrap_err().line, 1);
    }

    #[test]
    fn an_alias_comes_and_goes_without_a_trace() {
        let (info, sales, ann) = (address("info@example.org"), address("sales@example.org"), address("ann@example.org"));
        let one = add_alias(TEXT, &info, std::slice::from_ref(&ann)).unwrap();
        assert_eq!(one, format!("{TEXT}\r\n[[alias]]\r\naddress = \"info@example.org\"\r\nto = [\"ann@example.org\"]\r\n"));
        let two = add_alias(&one, &sales, &[ann.clone(), address("bob@example.org")]).unwrap();
        assert_eq!(remove_alias(&two, &address("SALES@example.org")).unwrap(), one);
        assert_eq!(remove_alias(&remove_alias(&two, &info).unwrap(), &sales).unwrap(), TEXT);
        assert!(add_alias(&one, &address("Info@example.org"), std::slice::from_ref(&ann)).is_err());
        assert!(add_alias(&one, &sales, &[address("x@elsewhere.example")]).unwrap_err().to_string().contains("another server"));
        assert!(remove_alias(&one, &ann).is_err());
    }

    #[test]
    fn first_users_become_comments() {
        let block =
            "[[first-user]]\r\naddress = \"ann@example.org\"\r\n# her old one: 'older-secret'\r\npassword = \"secret-word\" # secret";
        let text = format!("{TEXT}{block}\r\n# tail\r\n{}", block.replace("ann@", "bob@"));
        let now = UnixTime(1_795_452_194);
        let made = |who: &str| format!("# first-user {who}@example.org: made on 2026-11-23");
        assert_eq!(consume_first_user(&text, now).unwrap(), format!("{TEXT}{}\r\n# tail\r\n{}", made("ann"), made("bob")));
        assert_eq!(consume_first_user(TEXT, now).unwrap(), TEXT);
    }
}
