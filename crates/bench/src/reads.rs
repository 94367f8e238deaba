//! The questions of the contract on a filled store, alone and while it takes all the messages that it can.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use percent_encoding::{NON_ALPHANUMERIC, utf8_percent_encode};
use serde::Serialize;

use crate::BenchError;
use crate::child::Server;
use crate::client::Client;
use crate::fill;
use crate::load::{self, Load};
use crate::messages::ORDER_SIGN;
use crate::report;
use crate::sender::{Sender, Shape};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A database that `fill` has filled. What is ingested stays in it
    #[arg(long)]
    database: PathBuf,
    /// Seconds of each question
    #[arg(long, default_value = "3", value_parser = load::seconds)]
    seconds: Duration,
}

/// A question in several wordings, which take turns.
struct Question {
    name: &'static str,
    targets: Vec<String>,
}

#[derive(Debug, Serialize)]
struct Row {
    question: &'static str,
    /// Matches of the first query.
    total: Option<u64>,
    alone: Latency,
    under_ingest: Latency,
}

#[derive(Debug, Serialize)]
struct Latency {
    asked: u64,
    p50_ms: f64,
    p99_ms: f64,
}

pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    fill::settle_database(&args.database)?;
    let server = Server::on(&args.database)?;
    let client = Client::new(server.addr);
    let questions = questions(&client)?;
    let totals: Vec<Option<u64>> = questions
        .iter()
        .map(|q| Ok(client.json(&q.targets[0])?["total"].as_u64()))
        .collect::<Result<_, BenchError>>()?;
    let ask_all = || -> Result<Vec<Latency>, BenchError> {
        questions.iter().map(|question| ask(&client, question, args.seconds)).collect()
    };
    let alone = ask_all()?;

    let runtime = load::runtime()?;
    let sender = Sender::new(Shape::default(), Load::FULL.duration)?;
    let ingest = runtime.block_on(load::start(server.addr, &sender, Load::FULL));
    let ingest = ingest?;
    let under_ingest = ask_all()?;
    let ingested = runtime.block_on(ingest.stop())?;

    let rows: Vec<Row> = questions
        .iter()
        .zip(totals)
        .zip(alone.into_iter().zip(under_ingest))
        .map(|((q, total), (alone, under_ingest))| Row { question: q.name, total, alone, under_ingest })
        .collect();
    report::print(
        &[
            ("question", |row: &Row| row.question.to_owned()),
            ("total", |row| row.total.map_or_else(|| "-".to_owned(), |n| n.to_string())),
            ("p50 ms", |row| format!("{:.2}", row.alone.p50_ms)),
            ("p99 ms", |row| format!("{:.2}", row.alone.p99_ms)),
            ("under ingest: p50 ms", |row| format!("{:.2}", row.under_ingest.p50_ms)),
            ("p99 ms", |row| format!("{:.2}", row.under_ingest.p99_ms)),
            ("p50 / alone", |row| format!("{:.1}", row.under_ingest.p50_ms / row.alone.p50_ms)),
        ],
        &rows,
    )?;
    println!("ingest beside the questions: {:.0} requests/s", ingested.accepted_per_s());
    Ok(())
}

fn questions(client: &Client) -> Result<Vec<Question>, BenchError> {
    let stats = client.json("/stats")?;
    let middle = stats["total_messages"].as_u64().ok_or("a total")? / 2;
    let deep = format!("/messages?offset={middle}");
    let page = client.json(&format!("{deep}&limit=100"))?;
    let messages = page["data"].as_array().filter(|m| !m.is_empty()).ok_or("the database is empty")?;
    let texts = |key: &'static str| messages.iter().filter_map(move |message| message[key].as_str());

    let mut senders: Vec<(u64, String)> = Vec::new();
    for sender in texts("from") {
        let target = messages_by("from", sender);
        let total = client.json(&format!("{target}&limit=1"))?["total"].as_u64();
        senders.push((total.ok_or("a total")?, target));
    }
    senders.sort();
    let usual_sender = senders.swap_remove(senders.len() / 2).1;
    let busiest = stats["messages_per_sender"][0]["from"].as_str().ok_or("a sender")?;
    let since = texts("ts").next().ok_or("a time")?;
    let orders: Vec<String> =
        texts("text").flat_map(order_numbers).map(|number| messages_by("q", number)).collect();
    if orders.is_empty() {
        return Err("no text has the number of an order: was it filled by `fill`?".into());
    }

    let next = client.next_page(&deep)?;
    let mut questions = vec![
        Question { name: "/stats", targets: vec!["/stats".to_owned()] },
        Question { name: "first page", targets: vec!["/messages".to_owned()] },
        Question { name: "from, a usual sender", targets: vec![usual_sender] },
        Question { name: "from, the busiest", targets: vec![messages_by("from", busiest)] },
        Question { name: "since, half of all", targets: vec![messages_by("since", since)] },
        Question { name: "q, a number", targets: orders },
        Question { name: "offset, half of all", targets: vec![deep] },
    ];
    match next {
        Some(next) => questions.push(Question { name: "cursor, half of all", targets: vec![next] }),
        None => println!("skipped: cursor (the page is the last one)"),
    }
    Ok(questions)
}

fn messages_by(parameter: &str, value: &str) -> String {
    format!("/messages?{parameter}={}", utf8_percent_encode(value, NON_ALPHANUMERIC))
}

fn order_numbers(text: &str) -> impl Iterator<Item = &str> {
    text.split(' ').filter_map(|word| word.strip_prefix(ORDER_SIGN))
}

/// Asks again and again, one after the other.
fn ask(client: &Client, question: &Question, duration: Duration) -> Result<Latency, BenchError> {
    let mut latency_us = Histogram::<u64>::new_with_max(60_000_000, 3)?;
    let started = Instant::now();
    for target in question.targets.iter().cycle() {
        let asked = Instant::now();
        client.get(target)?;
        latency_us.saturating_record(u64::try_from(asked.elapsed().as_micros())?);
        if started.elapsed() >= duration {
            break;
        }
    }
    let ms = |quantile| latency_us.value_at_quantile(quantile) as f64 / 1000.0;
    Ok(Latency { asked: latency_us.len(), p50_ms: ms(0.5), p99_ms: ms(0.99) })
}
