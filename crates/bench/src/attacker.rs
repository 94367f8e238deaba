//! One client that would have the server for itself: without a secret or a token, from one address, on this machine.

use std::future::pending;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use api::transport::open_files;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{MissedTickBehavior, interval, sleep, timeout};

use crate::BenchError;
use crate::honest::connect;
use crate::load;

/// Address of all attacks.
const ADDR: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 2);

/// Connections that are opened in a second at first.
const OPENED_PER_S: u32 = 1000;

/// Those that are opened in place of others that the server has closed: holding is the attack, not hurrying.
const REOPENED_PER_S: u32 = 100;

/// Attack of one kind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Attack {
    /// Bodies of a mebibyte that look signed and are dribbled
    Bodies,
    /// As many connections as there may be, held
    Connections,
    /// TLS handshakes that are not begun
    Handshakes,
    /// Small requests ahead on thousands of connections, whose answers are not read
    Pipelines,
    /// Heads that do not end
    Heads,
    /// Searches that look through every text
    Questions,
    /// Requests that have much to be logged
    Log,
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    attack: Attack,
    #[arg(long)]
    addr: SocketAddr,
    #[arg(long, value_parser = load::seconds)]
    seconds: Duration,
}

/// Attacks for so long, and ends.
pub(crate) fn run(args: &Args) -> Result<(), BenchError> {
    // Each connection is a file.
    let connections_max = open_files::connections_max();
    let runtime = load::runtime()?;
    // It never ends by itself.
    let attack = attack(args.attack, args.addr, connections_max);
    let _ = runtime.block_on(async { timeout(args.seconds, attack).await });
    runtime.shutdown_background();
    Ok(())
}

async fn attack(attack: Attack, addr: SocketAddr, connections_max: usize) {
    let n_connections = match attack {
        Attack::Bodies => 70,
        Attack::Connections | Attack::Heads => usize::MAX,
        Attack::Handshakes => 1500,
        Attack::Pipelines => 4000,
        Attack::Questions => 16,
        Attack::Log => 8,
    };
    let n_connections = n_connections.min(connections_max);
    let mut open = JoinSet::new();
    let mut first = interval(Duration::from_secs(1) / OPENED_PER_S);
    let mut again = interval(Duration::from_secs(1) / REOPENED_PER_S);
    again.set_missed_tick_behavior(MissedTickBehavior::Delay);
    for n in 0.. {
        if open.len() >= n_connections {
            open.join_next().await;
        }
        if n < n_connections {
            first.tick().await
        } else {
            again.tick().await
        };
        open.spawn(async move {
            // Another connection takes the place of one that fails.
            let _ = hold(attack, addr).await;
        });
    }
}

/// One connection, until the server ends it.
async fn hold(attack: Attack, addr: SocketAddr) -> std::io::Result<()> {
    let mut stream = connect(ADDR, addr).await?;
    match attack {
        Attack::Bodies => {
            let length = 1 << 20;
            let signature = "0".repeat(64);
            let head = format!(
                "POST /webhook HTTP/1.1\r\nHost: a\r\nX-Signature: {signature}\r\nContent-Length: {length}\r\n\r\n"
            );
            stream.write_all(head.as_bytes()).await?;
            for part in vec![b'x'; length - 1].chunks(16 << 10) {
                stream.write_all(part).await?;
                sleep(Duration::from_millis(100)).await;
            }
            ended(stream).await
        }
        Attack::Connections => {
            stream.write_all(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n").await?;
            ended(stream).await
        }
        Attack::Handshakes => ended(stream).await,
        Attack::Pipelines => {
            let many = b"GET / HTTP/1.1\r\nHost:\r\n\r\n".repeat(40);
            loop {
                stream.write_all(&many).await?;
                sleep(Duration::from_secs(5)).await;
            }
        }
        Attack::Heads => {
            stream.write_all(b"GET / HTTP/1.1\r\nHost: a\r\nA: ").await?;
            stream.write_all(&[b'a'; 60_000]).await?;
            ended(stream).await
        }
        Attack::Questions => {
            for q in ["ab", "hello", "o"].iter().cycle() {
                let question = format!("GET /messages?q={q}&limit=1 HTTP/1.1\r\nHost: a\r\n\r\n");
                stream.write_all(question.as_bytes()).await?;
                answer(&mut stream).await?;
                // What is refused at once is no slow question.
                sleep(Duration::from_millis(50)).await;
            }
            pending().await
        }
        Attack::Log => loop {
            let method = "M".repeat(60_000);
            stream.write_all(format!("{method} /{method} HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await?;
            answer(&mut stream).await?;
            stream.write_all(format!("{method} / HTTP/1.1\r\nHost: a\r\n\r\n").as_bytes()).await?;
            answer(&mut stream).await?;
            sleep(Duration::from_millis(20)).await;
        },
    }
}

/// Waits for the server to end a connection.
async fn ended(mut stream: TcpStream) -> std::io::Result<()> {
    let mut bytes = [0; 1024];
    while stream.read(&mut bytes).await? > 0 {}
    Ok(())
}

/// Reads something of an answer.
async fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    match stream.read(&mut [0; 16 << 10]).await? {
        0 => Err(std::io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}
