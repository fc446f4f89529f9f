//! The queue for the people who look after it: listed, shown, steered; and the rules that hold mail back.
//!
//! In go commands of `admin::wire::queue`, out come their rows. Each look is a page, so that 100,000 messages neither stop
//! the event loop nor hold pages of the store back. Nothing is sent from here: the scheduler sees the changes in the store,
//! also the notice that a failed recipient's sender is owed.

use log::info;

use crate::admin::Channel;
use crate::admin::Failure;
use crate::admin::Instance;
use crate::admin::row;
use crate::admin::users;
use crate::admin::wire::queue::EventRow;
use crate::admin::wire::queue::HoldFields;
use crate::admin::wire::queue::HoldRow;
use crate::admin::wire::queue::Picked;
use crate::admin::wire::queue::QueueCommand;
use crate::admin::wire::queue::QueueMessageRow;
use crate::admin::wire::queue::QueueRecipientRow;
use crate::admin::wire::queue::QueueRow;
use crate::admin::wire::queue::SteeredRow;
use crate::admin::wire::queue::Verb;
use crate::admin::wire::queue::Whom;
use crate::mail::address::Address;
use crate::mail::date::UnixTime;
use crate::mail::path::ReversePath;
use crate::mail::received::TlsFacts;
use crate::net::breathe::breathe;
use crate::store::Error;
use crate::store::HoldId;
use crate::store::PAGE;
use crate::store::QueueId;
use crate::store::Writer;
use crate::store::accounts;
use crate::store::holds;
use crate::store::holds::HoldRule;
use crate::store::queue;
use crate::store::queue::Event;
use crate::store::queue::LastAttempt;
use crate::store::queue::Listed;
use crate::store::queue::Queued;
use crate::store::queue::QueuedRecipient;
use crate::store::queue::RecipientState;
use crate::store::queue::Steered;

/// Messages between two turns of the event loop: some have hundreds of recipients.
const TURN: usize = 8;
/// In the place of what is damaged.
const UNREADABLE: &str = "(damaged)";
/// What a history says of who did it.
const ADMINISTRATOR: &str = "by the administrator";

pub async fn run<C: Channel>(instance: &Instance, command: QueueCommand, channel: &mut C) -> Result<(), Failure> {
    match command {
        QueueCommand::List => list(instance, channel).await,
        QueueCommand::Show { id } => show(instance, channel, id).await,
        QueueCommand::Steer { verb, whom } => steer(instance, channel, verb, whom).await,
        QueueCommand::HoldAdd(fields) => hold_add(instance, channel, fields).await,
        QueueCommand::HoldList => hold_list(instance, channel).await,
        QueueCommand::HoldRemove { id } => hold_remove(instance, id).await,
    }
}

/// One row a message, oldest first.
async fn list<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = instance.store.read(|reader| queue::list(reader, after, PAGE))?;
        let Some((last, _)) = page.last() else { return Ok(()) };
        after = Some(*last);
        for (at, (id, message)) in page.into_iter().enumerate() {
            let recipients = instance.store.read(|reader| queue::listed_recipients(reader, id))?;
            // Done since the page was read: no row.
            if !recipients.is_empty() {
                row(channel, &queue_row(id, message.as_ref(), &recipients)).await?;
            }
            if at % TURN == TURN - 1 {
                breathe().await;
            }
        }
    }
}

fn queue_row(id: QueueId, message: Result<&Queued, &Error>, recipients: &[Listed<u32, QueuedRecipient>]) -> QueueRow {
    let all = || recipients.iter().filter_map(|(_, recipient)| recipient.as_ref().ok());
    let damaged = || recipients.iter().filter_map(|(_, recipient)| recipient.as_ref().err());
    let damage = message.err().or_else(|| damaged().next());
    let held = all().filter(|recipient| is_held(recipient)).count();
    let next = all().filter(|recipient| !is_held(recipient)).map(|recipient| recipient.due).min();
    let last = all().filter_map(|recipient| recipient.last.as_ref()).max_by_key(|last| last.at);
    let said = last.map(|last| last.reply.clone()).or_else(|| all().find_map(aside_text)).unwrap_or_default();
    QueueRow {
        id: id.to_string(),
        from: message.map_or_else(|_| UNREADABLE.to_owned(), |message| sender_text(&message.reverse_path)),
        to: all().next().map_or_else(|| UNREADABLE.to_owned(), |recipient| recipient.address.to_string()),
        recipients: u32::try_from(recipients.len()).unwrap_or(u32::MAX),
        held: u32::try_from(held + damaged().count()).unwrap_or(u32::MAX),
        size: message.map_or(0, |message| message.size),
        arrived: message.map_or_else(|_| UNREADABLE.to_owned(), |message| message.arrived.to_string()),
        next_attempt: next.map(|due| due.to_string()).unwrap_or_default(),
        last_error: damage.map_or(said, |damage| format!("set aside: {damage}")),
    }
}

/// Why a recipient was set aside.
fn aside_text(recipient: &QueuedRecipient) -> Option<String> {
    match &recipient.state {
        RecipientState::Held(why) if why.starts_with(queue::SET_ASIDE) => Some(why.clone()),
        RecipientState::Held(_) | RecipientState::Waiting | RecipientState::Failing(_) => None,
    }
}

fn is_held(recipient: &QueuedRecipient) -> bool {
    matches!(recipient.state, RecipientState::Held(_))
}

fn sender_text(path: &ReversePath) -> String {
    path.address().map_or_else(|| "<>".to_owned(), Address::to_string)
}

fn tls_text(facts: Option<&TlsFacts>) -> String {
    facts.map(|facts| format!("{} {}", facts.version, facts.cipher)).unwrap_or_default()
}

fn no_message(id: QueueId) -> Failure {
    Failure::new(format!("there is no message {id} in the queue"), "`pipit queue list` shows what waits; what is not there is done")
}

/// A row about the message, then one a recipient.
async fn show<C: Channel>(instance: &Instance, channel: &mut C, id: QueueId) -> Result<(), Failure> {
    let (message, recipients) = instance.store.read(|reader| Ok((queue::get(reader, id), queue::listed_recipients(reader, id)?)))?;
    let message = match message {
        Ok(None) if recipients.is_empty() => return Err(no_message(id)),
        Ok(None) => Err("its own row is missing".to_owned()),
        Ok(Some(message)) => Ok(message),
        Err(Error::Damaged(why)) => Err(why),
        Err(error) => return Err(error.into()),
    };
    let fields = match message {
        Ok(message) => {
            let account = message.sender.map(|sender| instance.store.read(|reader| accounts::get(reader, sender)));
            let account = account.and_then(Result::ok).flatten().map(|account| account.address.to_string());
            message_row(id, message, account.unwrap_or_default())
        }
        Err(why) => QueueMessageRow { id: id.to_string(), damage: why, ..QueueMessageRow::default() },
    };
    row(channel, &fields).await?;
    for (n, recipient) in recipients {
        let fields = match recipient {
            Ok(recipient) => recipient_row(n, recipient),
            Err(why) => {
                let (recipient, state) = (UNREADABLE.to_owned(), "damaged".to_owned());
                QueueRecipientRow { recipient, n: n.saturating_add(1), state, why: why.to_string(), ..QueueRecipientRow::default() }
            }
        };
        row(channel, &fields).await?;
    }
    Ok(())
}

fn message_row(id: QueueId, message: Queued, account: String) -> QueueMessageRow {
    QueueMessageRow {
        id: id.to_string(),
        from: sender_text(&message.reverse_path),
        account,
        origin: message.origin.word().to_owned(),
        subject: message.digest.subject,
        message_id: message.digest.message_id,
        size: message.size,
        arrived: message.arrived.to_string(),
        require_tls: message.wish.word().to_owned(),
        smtp_utf8: message.smtp_utf8,
        ret: message.ret.to_string(),
        envid: message.envid.unwrap_or_default(),
        client: message.reception.client,
        tls: tls_text(message.reception.tls.as_ref()),
        recipients: message.next_n,
        open: message.open,
        waited_blind: message.waited_blind,
        damage: String::new(),
    }
}

fn recipient_row(n: u32, recipient: QueuedRecipient) -> QueueRecipientRow {
    let due = if is_held(&recipient) { String::new() } else { recipient.due.to_string() };
    let (state, why) = match recipient.state {
        RecipientState::Waiting => ("waiting", String::new()),
        RecipientState::Held(why) => ("held", why),
        RecipientState::Failing(why) => ("failing", why),
    };
    let mut fields = QueueRecipientRow {
        recipient: recipient.address.to_string(),
        n: n.saturating_add(1),
        state: state.to_owned(),
        why,
        attempts: recipient.attempts,
        due,
        require_tls: recipient.wish.word().to_owned(),
        notify: recipient.notify.to_string(),
        orcpt: recipient.orcpt.unwrap_or_default(),
        delay_told: recipient.delay_told,
        history: recipient.history.into_iter().map(|event| EventRow { at: event.at.to_string(), what: event.what }).collect(),
        ..QueueRecipientRow::default()
    };
    if let Some(LastAttempt { at, host, address, reply, status, tls, remote }) = recipient.last {
        fields.last_at = at.to_string();
        fields.last_host = host;
        fields.last_address = address;
        fields.last_reply = reply;
        fields.last_status = status.to_string();
        fields.last_remote = remote;
        fields.last_tls = tls_text(tls.as_ref());
    }
    fields
}

/// One recipient on its way through a verb.
struct Candidate {
    id: QueueId,
    n: u32,
    /// for words only: of one that is damaged it is not known
    address: String,
}

impl Candidate {
    fn new(id: QueueId, (n, recipient): Listed<u32, QueuedRecipient>) -> Candidate {
        let address = recipient.map_or_else(|_| UNREADABLE.to_owned(), |recipient| recipient.address.to_string());
        Candidate { id, n, address }
    }
}

/// Does it to everyone who was named, page by page; a row each. It is a failure if nothing changed.
async fn steer<C: Channel>(instance: &Instance, channel: &mut C, verb: Verb, whom: Whom) -> Result<(), Failure> {
    let mut tally = Tally::default();
    match whom {
        Whom::Picked(picked) => {
            for page in pick(instance, &picked)?.chunks(PAGE) {
                steer_page(instance, channel, verb, page, &mut tally).await?;
            }
        }
        Whom::Domain(domain) => steer_all(instance, channel, verb, &mut tally, |address| address.domain == domain).await?,
        Whom::All => steer_all(instance, channel, verb, &mut tally, |_| true).await?,
    }
    match tally {
        Tally { seen: 0, .. } => Err(Failure::new("no recipient in the queue is meant by that", "`pipit queue list` shows what waits")),
        Tally { changed: 0, .. } => Err(Failure::new("nothing was changed", "the lines above say why")),
        Tally { .. } => Ok(()),
    }
}

#[derive(Default)]
struct Tally {
    seen: usize,
    changed: usize,
}

/// The recipients that were named; an id that is not there stops all of it before anything is done.
fn pick(instance: &Instance, picked: &[Picked]) -> Result<Vec<Candidate>, Failure> {
    let mut candidates = Vec::new();
    for Picked { id, n } in picked.iter().copied() {
        let recipients = instance.store.read(|reader| queue::listed_recipients(reader, id))?;
        let wanted = recipients.into_iter().filter(|(number, _)| n.is_none_or(|n| n == *number));
        let before = candidates.len();
        candidates.extend(wanted.map(|listed| Candidate::new(id, listed)));
        match n {
            _ if candidates.len() > before => {}
            None => return Err(no_message(id)),
            Some(_) => {
                let named = Picked { id, n };
                return Err(Failure::new(
                    format!("there is no recipient {named} in the queue"),
                    format!("`pipit queue show {id}` numbers them"),
                ));
            }
        }
    }
    Ok(candidates)
}

/// Goes through the whole queue.
async fn steer_all<C: Channel>(
    instance: &Instance,
    channel: &mut C,
    verb: Verb,
    tally: &mut Tally,
    is_meant: impl Fn(&Address) -> bool,
) -> Result<(), Failure> {
    let mut after = None;
    loop {
        let page = instance.store.read(|reader| queue::recipients_after(reader, after, PAGE))?;
        let Some((id, n, _)) = page.last() else { return Ok(()) };
        after = Some((*id, *n));
        let meant = page.into_iter().filter(|(_, _, recipient)| is_meant(&recipient.address));
        let meant: Vec<Candidate> = meant.map(|(id, n, recipient)| Candidate::new(id, (n, Ok(recipient)))).collect();
        steer_page(instance, channel, verb, &meant, tally).await?;
        breathe().await;
    }
}

/// One change of the store; then a row and a line of the log for each recipient.
async fn steer_page<C: Channel>(
    instance: &Instance,
    channel: &mut C,
    verb: Verb,
    page: &[Candidate],
    tally: &mut Tally,
) -> Result<(), Failure> {
    if page.is_empty() {
        return Ok(());
    }
    let now = instance.clock.now();
    let rows: Vec<(QueueId, u32)> = page.iter().map(|candidate| (candidate.id, candidate.n)).collect();
    let work = move |w: &mut Writer<'_>| rows.into_iter().map(|who| steer_one(w, verb, who, now)).collect::<Result<Vec<_>, _>>();
    let outcomes = instance.store.write(work).await?;
    for (candidate, outcome) in page.iter().zip(outcomes) {
        let Candidate { id, n, address } = candidate;
        tally.seen += 1;
        let (changed, outcome) = match outcome {
            Steered::Done => ("yes", done_words(verb)),
            Steered::Already(why) => ("no", why),
            Steered::NoSuch => ("no", "is done meanwhile"),
        };
        if changed == "yes" {
            tally.changed += 1;
            info!("message {id} to {address} {outcome} {ADMINISTRATOR}");
        }
        let fields = SteeredRow {
            id: id.to_string(),
            n: n.saturating_add(1),
            recipient: address.clone(),
            changed: changed.to_owned(),
            outcome: outcome.to_owned(),
        };
        row(channel, &fields).await?;
    }
    Ok(())
}

fn done_words(verb: Verb) -> &'static str {
    match verb {
        Verb::Retry => "made due now",
        Verb::Hold => "held",
        Verb::Release => "released",
        Verb::Fail => "given up with a notice",
        Verb::Drop => "dropped without a notice",
    }
}

fn steer_one(w: &mut Writer<'_>, verb: Verb, (id, n): (QueueId, u32), now: UnixTime) -> Result<Steered, Error> {
    let event = Event { at: now, what: format!("{} {ADMINISTRATOR}", done_words(verb)) };
    match verb {
        Verb::Retry => queue::retry_now(w, id, n, event),
        Verb::Hold => queue::hold(w, id, n, format!("held {ADMINISTRATOR}"), event),
        Verb::Release => queue::release(w, id, n, event),
        Verb::Fail => queue::fail(w, id, n, format!("failed {ADMINISTRATOR}"), event),
        Verb::Drop => queue::remove(w, id, n),
    }
}

/// Makes a rule and holds what waits already; a row about it.
async fn hold_add<C: Channel>(instance: &Instance, channel: &mut C, fields: HoldFields) -> Result<(), Failure> {
    let HoldFields { sender, recipient, recipient_domain, account } = fields;
    let account = account.map(|address| users::find(instance, &address)).transpose()?;
    let now = instance.clock.now();
    let rule = HoldRule { sender, recipient, recipient_domain, account, created: now };
    let stored = rule.clone();
    let id = instance.store.write(move |w| holds::add(w, &stored)).await?;
    info!("hold rule {id} added: {rule}");
    let (mut held, mut after) = (0, None);
    loop {
        let applied = instance.store.write(move |w| holds::apply(w, id, after, now)).await?;
        held += applied.held;
        after = applied.next;
        if after.is_none() {
            break;
        }
        breathe().await;
    }
    let fields = HoldRow { held: Some(held), ..hold_row(id, &rule) };
    row(channel, &fields).await?;
    Ok(())
}

fn hold_row(id: HoldId, rule: &HoldRule) -> HoldRow {
    HoldRow { id: id.0, rule: rule.to_string(), created: rule.created.to_string(), held: None }
}

async fn hold_list<C: Channel>(instance: &Instance, channel: &mut C) -> Result<(), Failure> {
    for (id, rule) in instance.store.read(holds::list)? {
        row(channel, &hold_row(id, &rule)).await?;
    }
    Ok(())
}

/// What the rule holds stays held.
async fn hold_remove(instance: &Instance, id: HoldId) -> Result<(), Failure> {
    let removed = instance.store.write(move |w| holds::remove(w, id)).await?;
    let rule = removed.ok_or_else(|| Failure::new(format!("there is no hold rule {id}"), "`pipit hold list` shows them"))?;
    info!("hold rule {id} removed: {rule}");
    Ok(())
}
