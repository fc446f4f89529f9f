//! What an edit changes, as a unified diff for a person's eyes (the form of `diff -u`, without file names).
//!
//! Own and small: configurations are short and edits touch few lines. Common lines at both ends are cut off first; the
//! middle is compared line by line with a bounded table, beyond which it is shown as removed and added.

/// Unchanged lines around a change.
const CONTEXT: usize = 3;
/// Cells of the comparison table: 4 MiB of memory at most, and some milliseconds.
const MAX_CELLS: usize = 1_000_000;

#[derive(Clone, Copy, PartialEq, Eq)]
enum Mark {
    Same,
    Removed,
    Added,
}

/// The lines that differ, with context; empty when the texts are equal.
pub fn unified(old: &str, new: &str) -> String {
    if old == new {
        return String::new();
    }
    let script = script(&lines(old), &lines(new));
    let mut out = String::new();
    let mut at = 0;
    while let Some(change) = (at..script.len()).find(|n| script[*n].0 != Mark::Same) {
        let start = change.saturating_sub(CONTEXT).max(at);
        let end = hunk_end(&script, change);
        write_hunk(&script, start, end, &mut out);
        at = end;
    }
    out
}

/// Lines with their ends: a changed line end is a change.
fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// A hunk ends where more unchanged lines follow than two contexts hold.
fn hunk_end(script: &[(Mark, &str)], change: usize) -> usize {
    let mut last = change;
    for (n, (mark, _)) in script.iter().enumerate().skip(change) {
        if *mark != Mark::Same {
            last = n;
        } else if n - last > 2 * CONTEXT {
            break;
        }
    }
    (last + CONTEXT + 1).min(script.len())
}

fn write_hunk(script: &[(Mark, &str)], start: usize, end: usize, out: &mut String) {
    let count = |range: &[(Mark, &str)], without: Mark| range.iter().filter(|(mark, _)| *mark != without).count();
    let (old_length, new_length) = (count(&script[start..end], Mark::Added), count(&script[start..end], Mark::Removed));
    // A hunk of no lines names the line before it (POSIX diff).
    let old_start = count(&script[..start], Mark::Added) + usize::from(old_length > 0);
    let new_start = count(&script[..start], Mark::Removed) + usize::from(new_length > 0);
    out.push_str(&format!("@@ -{old_start},{old_length} +{new_start},{new_length} @@\n"));
    for (mark, line) in &script[start..end] {
        out.push(match mark {
            Mark::Same => ' ',
            Mark::Removed => '-',
            Mark::Added => '+',
        });
        out.push_str(line.trim_end_matches(['\n', '\r']));
        out.push('\n');
    }
}

fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(Mark, &'a str)> {
    let head = old.iter().zip(new).take_while(|(o, n)| o == n).count();
    let tail = old[head..].iter().rev().zip(new[head..].iter().rev()).take_while(|(o, n)| o == n).count();
    let (old_middle, new_middle) = (&old[head..old.len() - tail], &new[head..new.len() - tail]);
    let mut out: Vec<(Mark, &str)> = old[..head].iter().map(|line| (Mark::Same, *line)).collect();
    if old_middle.len().saturating_mul(new_middle.len()) > MAX_CELLS {
        out.extend(old_middle.iter().map(|line| (Mark::Removed, *line)));
        out.extend(new_middle.iter().map(|line| (Mark::Added, *line)));
    } else {
        middle(old_middle, new_middle, &mut out);
    }
    out.extend(old[old.len() - tail..].iter().map(|line| (Mark::Same, *line)));
    out
}

/// Longest common subsequence by the textbook.
fn middle<'a>(old: &[&'a str], new: &[&'a str], out: &mut Vec<(Mark, &'a str)>) {
    let width = new.len() + 1;
    let mut longest = vec![0u32; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            longest[i * width + j] = match old[i] == new[j] {
                true => longest[(i + 1) * width + j + 1] + 1,
                false => longest[(i + 1) * width + j].max(longest[i * width + j + 1]),
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            out.push((Mark::Same, old[i]));
            (i, j) = (i + 1, j + 1);
        } else if j == new.len() || (i < old.len() && longest[(i + 1) * width + j] >= longest[i * width + j + 1]) {
            out.push((Mark::Removed, old[i]));
            i += 1;
        } else {
            out.push((Mark::Added, new[j]));
            j += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_show_with_context() {
        assert_eq!(unified("a\nb\n", "a\nb\n"), "");
        assert_eq!(unified("", "a\n"), "@@ -0,0 +1,1 @@\n+a\n");
        assert_eq!(unified("a\n", ""), "@@ -1,1 +0,0 @@\n-a\n");
        assert_eq!(unified("1\n2\n3\n4\n5\n", "1\n2\n3\n4\nfive\n"), "@@ -2,4 +2,4 @@\n 2\n 3\n 4\n-5\n+five\n");
        assert_eq!(unified("a\r\nb\r\n", "a\r\nx\r\nb\r\n"), "@@ -1,2 +1,3 @@\n a\n+x\n b\n");
    }

    #[test]
    fn far_changes_are_hunks_of_their_own() {
        let old: String = (1..=20).map(|n| format!("{n}\n")).collect();
        let new = old.replace("2\n3\n", "2\n").replace("19\n", "nineteen\n");
        let shown = unified(&old, &new);
        assert_eq!(shown.matches("@@ -").count(), 2, "{shown}");
        assert!(shown.ends_with("@@ -16,5 +15,5 @@\n 16\n 17\n 18\n-19\n+nineteen\n 20\n"), "{shown}");
    }

    #[test]
    fn large_changes_stay_cheap() {
        let old = "a\n".repeat(5000);
        let new = "b\n".repeat(5000);
        assert_eq!(unified(&old, &new).lines().count(), 10_001);
    }
}
