//! Messages like those of a WhatsApp business number: many scripts, many lengths, few busy senders.

use std::io::{BufWriter, Write};
use std::time::Duration;

use domain::time::Timestamp;
use rand::prelude::*;
use rand_chacha::ChaCha8Rng;
use serde::Serialize;

use crate::BenchError;

/// Words of one script each, and emoji with the sequences that break naive code.
const SCRIPTS: [&[&str]; 14] = [
    &[
        "hello",
        "order",
        "When",
        "will",
        "it",
        "ship?",
        "thanks!",
        "100%",
        "re_size",
        "C:\\temp",
        "\"quoted\"",
    ],
    &["école", "ÉTÉ", "garçon", "Straße", "ÜBER", "mañana", "İstanbul", "ısı", "œuvre", "naïve"],
    &["नमस्ते", "धन्यवाद", "मेरा", "ऑर्डर", "कहाँ", "है", "क्षमा"],
    &["مرحبا", "شكرا", "طلب", "أين", "رقم", "١٢٣"],
    &["שלום", "תודה", "הזמנה", "מתי", "בבקשה"],
    &["Привет", "СПАСИБО", "заказ", "когда", "ещё", "Ёлка"],
    &["Καλημέρα", "ΟΔΟΣ", "ευχαριστώ", "πότε", "οδός"],
    &["你好", "谢谢", "订单", "什么时候", "發貨", "𠮷野家"],
    &["こんにちは", "ありがとう", "注文", "ｶﾞｷﾞｸﾞ", "いつ"],
    &["안녕하세요", "감사합니다", "주문", "언제", "값"],
    &["สวัสดี", "ขอบคุณ", "สั่งซื้อ", "เมื่อไหร่", "น้ำ"],
    &["வணக்கம்", "நன்றி", "எப்போது", "ஆர்டர்"],
    &["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇮🇳", "❤️", "1️⃣", "🙏🏿"],
    &[
        "e\u{301}",
        "a\u{30a}",
        "\u{202e}abc",
        "\u{200b}",
        "line\nbreak",
        "tab\there",
        "'; DROP TABLE messages; --",
    ],
];

/// Stands before the number of an order, and nowhere else.
pub(crate) const ORDER_SIGN: char = '#';

/// 2025-01-01T00:00:00Z.
const FIRST_US: i64 = 1_735_689_600_000_000;

/// Longest delay of a message.
const LATE_US_MAX: i64 = 600_000_000;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Seed of the randomness
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Number of messages
    #[arg(long, default_value_t = 1000)]
    count: u64,
}

/// Senders, and how often each sends.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Traffic {
    /// The first are the busiest.
    pub(crate) senders: u64,
    /// The usual time from one message to the next.
    pub(crate) distance: Duration,
}

impl Default for Traffic {
    /// A small shop's.
    fn default() -> Self {
        Self { senders: 60, distance: Duration::from_secs(2) }
    }
}

/// One message as its sender's JSON.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Message {
    pub(crate) message_id: String,
    pub(crate) from: String,
    pub(crate) to: String,
    pub(crate) ts: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) text: Option<String>,
    /// Time of its arrival.
    #[serde(skip)]
    pub(crate) received_at: Timestamp,
}

/// An endless stream of messages, the same for the same seed.
pub(crate) struct Messages {
    rng: ChaCha8Rng,
    traffic: Traffic,
    now_us: i64,
}

impl Messages {
    pub(crate) fn new(seed: u64, traffic: Traffic) -> Self {
        Self { rng: ChaCha8Rng::seed_from_u64(seed), traffic, now_us: FIRST_US }
    }

    fn text(&mut self) -> Option<String> {
        let n_words = match self.rng.random_range(0..1000) {
            0..40 => return None, // a picture without a caption
            40..60 => return Some(String::new()),
            60..800 => self.rng.random_range(1..12),
            800..995 => self.rng.random_range(12..80),
            _ => 2000,
        };
        let script = SCRIPTS[self.rng.random_range(0..SCRIPTS.len())];
        let mut words: Vec<&str> =
            (0..n_words).map(|_| *script.choose(&mut self.rng).expect("no script is empty")).collect();
        // What is written about orders has a word that hardly any other text has.
        let order = self
            .rng
            .random_ratio(1, 4)
            .then(|| format!("{ORDER_SIGN}{:07}", self.rng.random_range(0..10_000_000)));
        words.extend(order.as_deref());
        Some(words.join(" ").chars().take(4096).collect())
    }

    /// The cube of a uniform number: of a thousand senders, the first writes a tenth of all messages.
    fn sender(&mut self) -> String {
        let place = self.rng.random::<f64>().powi(3);
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 <= place < 1")]
        let n = (place * self.traffic.senders as f64) as u64;
        format!("+9198765{n:05}")
    }

    /// Mostly in order and in whole seconds, as providers send them; some late, some with fractions.
    fn ts(&mut self) -> String {
        let late_us = if self.rng.random_ratio(1, 20) { self.rng.random_range(0..LATE_US_MAX) } else { 0 };
        let at = Timestamp::from_micros(self.now_us - late_us).to_string();
        if self.rng.random_ratio(1, 5) { at } else { format!("{}Z", &at[..19]) }
    }
}

impl Iterator for Messages {
    type Item = Message;

    fn next(&mut self) -> Option<Message> {
        let message_id =
            format!("wamid.HBgM{:016X}{:08X}", self.rng.random::<u64>(), self.rng.random::<u32>());
        let distance_us = i64::try_from(self.traffic.distance.as_micros()).unwrap_or(i64::MAX / 2);
        self.now_us += self.rng.random_range(0..=2 * distance_us);
        let received_at = Timestamp::from_micros(self.now_us);
        let (from, ts, text) = (self.sender(), self.ts(), self.text());
        Some(Message { message_id, from, to: "+14155550100".to_owned(), ts, text, received_at })
    }
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    let mut out = BufWriter::new(std::io::stdout().lock());
    for (message, _) in Messages::new(args.seed, Traffic::default()).zip(0..args.count) {
        serde_json::to_writer(&mut out, &message)?;
        out.write_all(b"\n")?;
    }
    out.flush()?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_message_is_valid_and_its_id_its_own() {
        let messages: Vec<Message> = Messages::new(1, Traffic::default()).take(1000).collect();
        for message in &messages {
            domain::payload::decode(&serde_json::to_vec(message).unwrap()).unwrap();
        }
        let ids: BTreeSet<&str> = messages.iter().map(|m| m.message_id.as_str()).collect();
        assert_eq!(ids.len(), 1000);
        assert!(messages.iter().any(|m| m.text.as_ref().is_some_and(|t| t.chars().count() == 4096)));
        assert!(messages.iter().any(|m| m.text.is_none()));
    }

    #[test]
    fn a_seed_gives_the_same_messages_again() {
        let lines = |seed| {
            Messages::new(seed, Traffic::default())
                .take(50)
                .map(|m| serde_json::to_string(&m).unwrap())
                .collect()
        };
        let first: Vec<String> = lines(7);
        let again: Vec<String> = lines(7);
        let other: Vec<String> = lines(8);
        assert_eq!(first, again);
        assert_ne!(first, other);
    }
}
