//! The model of the differential test: what a store of many messages means, in the plainest form that is quick enough.

use std::collections::HashMap;

use domain::message::{MessageKey, NewMessage, PhoneNumber};
use domain::query::{Filter, Listing, Message, Page, Place, Stats, TOP_SENDERS_MAX};
use domain::signature::BodyDigest;
use domain::store::{Appended, Seq};
use domain::text_query::TextQuery;

/// A message as the model knows it, in the plainest form.
pub(crate) struct Known {
    pub(crate) place: Place,
    pub(crate) message: Message,
    /// Its text, as it is looked for.
    pub(crate) folded: Option<String>,
}

/// The model: all that is kept, in the order of listing, and every key that ever came.
#[derive(Default)]
pub(crate) struct Model {
    pub(crate) listed: Vec<Known>,
    pub(crate) keys: HashMap<MessageKey, (Seq, Option<BodyDigest>)>,
    pub(crate) last_seq: i64,
}

impl Model {
    /// Takes what the store was given, and checks what it answered. Places are the store's to choose, as long as they
    /// rise.
    pub(crate) fn append(&mut self, new: &[NewMessage], answers: &[Appended]) {
        assert_eq!(new.len(), answers.len());
        for (new, answer) in new.iter().zip(answers) {
            let key = new.key();
            if let Some((seq, digest)) = self.keys.get(&key) {
                assert_eq!(*answer, Appended::Existing { seq: *seq, digest: *digest }, "{key:?}");
                continue;
            }
            let Appended::Stored(seq) = *answer else { panic!("{key:?} is new, not {answer:?}") };
            assert!(seq.0 > self.last_seq, "{seq:?} after {}", self.last_seq);
            self.last_seq = seq.0;
            self.keys.insert(key.clone(), (seq, Some(new.verified.body_digest)));
            let message = Message {
                seq,
                key,
                sender: new.content.sender.clone(),
                recipient: new.content.recipient.clone(),
                sent_at: new.content.sent_at.clone(),
                text: new.content.text.clone(),
            };
            let folded = message.text.as_ref().map(|text| TextQuery::new(text.as_str()).folded().to_owned());
            self.listed.push(Known { place: message.place(), message, folded });
        }
    }

    /// To be called when all that came is appended, and before anything is asked.
    pub(crate) fn sort(&mut self) {
        self.listed.sort_by(|a, b| a.place.cmp(&b.place));
    }

    /// Forgets some messages; their keys stay.
    pub(crate) fn forget(&mut self, is_gone: impl Fn(&Known) -> bool) {
        for gone in self.listed.iter().filter(|known| is_gone(known)) {
            self.keys.get_mut(&gone.message.key).unwrap().1 = None;
        }
        self.listed.retain(|known| !is_gone(known));
    }

    pub(crate) fn matching(&self, filter: &Filter) -> Vec<&Known> {
        let has_text = |known: &Known| match (&filter.text, &known.folded) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(wanted), Some(folded)) => folded.contains(wanted.folded()),
        };
        let is_wanted = |known: &&Known| {
            filter.sender.as_deref().is_none_or(|sender| sender == known.message.sender.as_str())
                && filter.since.as_ref().is_none_or(|since| known.place.sent_at >= *since)
                && has_text(known)
        };
        self.listed.iter().filter(is_wanted).collect()
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut per_sender: HashMap<&PhoneNumber, u64> = HashMap::new();
        for known in &self.listed {
            *per_sender.entry(&known.message.sender).or_default() += 1;
        }
        let senders_count = per_sender.len() as u64;
        let mut top_senders: Vec<(PhoneNumber, u64)> =
            per_sender.into_iter().map(|(sender, n)| (sender.clone(), n)).collect();
        top_senders.sort_by(|(a, n_a), (b, n_b)| n_b.cmp(n_a).then_with(|| a.as_str().cmp(b.as_str())));
        top_senders.truncate(TOP_SENDERS_MAX.into());
        let sent_at = |known: &Known| known.message.sent_at.clone();
        Stats {
            total_messages: self.listed.len() as u64,
            senders_count,
            top_senders,
            first_message_ts: self.listed.first().map(sent_at),
            last_message_ts: self.listed.last().map(sent_at),
        }
    }
}

pub(crate) fn page_of(matching: &[&Known], page: &Page) -> Listing {
    let is_before = |known: &&Known| page.after.as_ref().is_some_and(|place| known.place <= *place);
    let after = &matching[matching.partition_point(is_before)..];
    let offset = usize::try_from(page.offset).unwrap_or(usize::MAX).min(after.len());
    let end = (offset + usize::from(page.limit)).min(after.len());
    let messages: Vec<Message> = after[offset..end].iter().map(|known| known.message.clone()).collect();
    let next = messages.last().filter(|_| end < after.len()).map(Message::place);
    Listing { messages, total: matching.len() as u64, next }
}
