//! Messages that are written anew with 7 bits: whatever their MIME is, slices change nothing and no 8-bit octet is left.

use pipit::mail::recode::Recoder;
use pipit::mail::recode::Survey;
use pipit::mail::recode::Unfit;

pub const SEEDS: &[&[u8]] = &[
    b"From: a\r\nMIME-Version: 1.0\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Transfer-Encoding: 8bit\r\n\r\nGr\xc3\xbc\xc3\x9fe = \t\r\n",
    b"MIME-Version: 1.0\r\nContent-Type: multipart/mixed; boundary=\"b\"\r\nContent-Transfer-Encoding: 8bit\r\n\r\n--b\r\n\r\n\xfcber a\r\n--b\r\nContent-Type: image/png\r\nContent-Transfer-Encoding: binary\r\n\r\n\xff\x01\r\n--b--\r\n",
    b"Content-Type: multipart/digest; boundary=b\r\n\r\n--b\r\n\r\nSubject: x\r\n\r\n\xfc abc\r\n--b\r\nContent-Type: message/rfc822\r\n\r\nContent-Type: multipart/mixed (c); boundary=c\r\n\r\n--c\r\n\r\n\xff\r\n--c--\r\n--b--\r\n",
    b"Content-Type: multipart/signed; boundary=b\r\n\r\n--b\r\n\r\n\xfc\r\n--b--\r\n",
    b"DKIM-Signature: v=1; d=x.org; s=a\r\nSubject: \xfc\r\n\r\nx\r\n",
    b"Subject: x\r\n\r\n\xc3\xbc plain text\r\n",
];

pub fn target(data: &[u8]) {
    let message = canonical(data);
    let whole = recoded(&message, message.len().max(1));
    for size in [1, 7] {
        assert_eq!(recoded(&message, size), whole, "slices change nothing");
    }
    let Ok(out) = whole else {
        assert!(!message.is_ascii(), "what has 7 bits is fit");
        return;
    };
    assert!(out.is_ascii(), "no 8-bit octet is left");
    assert_eq!(canonical(&out), out, "lines end in CRLF");
    assert_eq!(recoded(&out, 64).as_ref(), Ok(&out), "what has 7 bits stays");
    if message.is_ascii() {
        assert_eq!(out, message);
    }
}

/// Every message in the store ends its lines so, and has no lone CR or LF.
fn canonical(data: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(data.len());
    for line in data.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()) {
        message.extend(line.iter().filter(|byte| **byte != b'\r'));
        message.extend_from_slice(b"\r\n");
    }
    message
}

fn recoded(message: &[u8], size: usize) -> Result<Vec<u8>, Unfit> {
    let mut survey = Survey::new();
    message.chunks(size).for_each(|slice| survey.push(slice));
    let plan = survey.finish()?;
    let (mut recoder, mut out) = (Recoder::new(&plan), Vec::new());
    message.chunks(size).for_each(|slice| recoder.push(slice, &mut out));
    Ok(out)
}
