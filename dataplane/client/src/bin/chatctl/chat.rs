//! `chatctl chat`: ask and watch the answer arrive.

use crate::Global;
use crate::answer::Screen;
use crate::cluster::{self, Cluster};
use crate::exit::{Outcome, Usage};
use crate::output::Paint;
use anyhow::Context as _;
use client::recorder::Recorder;
use client::session::Session;
use protocol::sim::Directive;
use protocol::{ChatOptions, ChatRequest, ConversationId, OnDisconnect, RequestId};
use std::io::IsTerminal;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, BufReader, Lines, Stdin, stdin};

const EXAMPLES: &str = "\
Examples:
  chatctl chat 'Write a haiku about queues'
  cat question.txt | chatctl chat
  chatctl chat '[sim tokens=200 rate=50 types=thinking,text] hello'
                              200 chunks of the simulated provider, 50 a second
  chatctl chat --json hello | jq -r 'select(.event==\"chunks\").data.chunks[].content'

While it streams, kill a node from another terminal:
  curl -X POST http://127.0.0.1:8080/dev/nodes/node-1/kill
The answer goes on; the summary on stderr counts reconnects and takeovers.

Ctrl-C cancels the answer and waits for its end; a second Ctrl-C quits.";

/// Ask, and print the answer while it arrives. Survives broken connections, dead nodes and drains.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct ChatArgs {
    /// The prompt; without one: stdin as a whole from a pipe, line by line on a terminal.
    prompt: Option<String>,
    /// Go on in this conversation.
    #[arg(long)]
    conversation: Option<ConversationIdArg>,
    /// Name the request yourself; the same name never starts a second answer.
    #[arg(long)]
    request_id: Option<String>,
    /// Which model answers.
    #[arg(long)]
    model: Option<String>,
    /// Cancel the answer when nobody has followed it for 30 s.
    #[arg(long)]
    cancel_on_disconnect: bool,
    /// Seed of request ids and jitter.
    #[arg(long)]
    seed: Option<u64>,
}

/// A UUID.
#[derive(Clone)]
pub(crate) struct ConversationIdArg(ConversationId);

impl std::str::FromStr for ConversationIdArg {
    type Err = &'static str;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        ConversationId::parse(text).map(Self).ok_or("a UUID is needed")
    }
}

impl ChatArgs {
    fn request(&self, content: &str) -> anyhow::Result<ChatRequest> {
        let content = content.trim();
        let (chars, most) = (content.chars().count(), protocol::MAX_CONTENT_CHARS);
        if chars == 0 {
            return Err(Usage("the prompt is empty".into()).into());
        }
        if chars > most {
            let text = format!("the prompt has {chars} characters; {most} are allowed");
            return Err(Usage(text).into());
        }
        let request_id = match &self.request_id {
            None => None,
            Some(text) => Some(
                RequestId::parse(text).context("--request-id: 1 to 64 visible ASCII characters")?,
            ),
        };
        Ok(ChatRequest {
            content: content.to_owned(),
            conversation_id: self.conversation.as_ref().map(|id| id.0),
            request_id,
            options: ChatOptions { model: self.model.clone(), ..ChatOptions::default() },
            on_disconnect: match self.cancel_on_disconnect {
                true => OnDisconnect::Cancel,
                false => OnDisconnect::Continue,
            },
        })
    }
}

pub(crate) async fn run(global: &Global, mut args: ChatArgs) -> anyhow::Result<Outcome> {
    let terminal = std::io::stdin().is_terminal();
    let prompt = match args.prompt.take() {
        Some(prompt) => Some(prompt),
        None if terminal => None,
        None => {
            let mut text = String::new();
            stdin().read_to_string(&mut text).await.context("stdin is no text")?;
            Some(text)
        }
    };
    let first = prompt.as_deref().map(|prompt| args.request(prompt)).transpose()?;
    let cluster = cluster::find(global).await?;
    let mut session = open(&cluster, args.seed);
    let outcome = match first {
        Some(request) => ask(global, &mut session, request).await.map(|shown| shown.0),
        None => converse(global, &mut session, args).await,
    };
    session.close().await;
    outcome
}

fn open(cluster: &Cluster, seed: Option<u64>) -> Session<Recorder> {
    let rng = cluster::rng(seed);
    Session::new(cluster.options(), cluster.tokens.clone(), rng, Recorder::default())
}

async fn ask(
    global: &Global,
    session: &mut Session<Recorder>,
    request: ChatRequest,
) -> anyhow::Result<(Outcome, Option<ConversationId>)> {
    let directive = Directive::parse(&request.content);
    let simulated = request.content.starts_with("[sim");
    let id = session.chat(request).context("too many requests wait")?;
    if let (true, Ok(directive)) = (simulated, directive) {
        session.observer().expect_request(id, directive);
    }
    let shown = Screen::new(global).show(session, None).await?;
    Ok((shown.outcome, shown.conversation))
}

async fn converse(
    global: &Global,
    session: &mut Session<Recorder>,
    mut args: ChatArgs,
) -> anyhow::Result<Outcome> {
    let paint = Paint::stderr(global);
    let mut lines: Lines<BufReader<Stdin>> = BufReader::new(stdin()).lines();
    let mut outcome = Outcome::Fine;
    eprintln!("{}", paint.dim("One line is one question; Ctrl-D ends."));
    loop {
        eprint!("{} ", paint.bold("you>"));
        // The session is kept alive while somebody thinks.
        let line = loop {
            tokio::select! {
                line = lines.next_line() => break line?,
                event = session.next() => match event {
                    Some(client::session::Event::Stopped(stop)) => return Err(stop.into()),
                    None => anyhow::bail!("the session is over"),
                    Some(_) => {}
                },
            }
        };
        let Some(line) = line else { return Ok(outcome) };
        if line.trim().is_empty() {
            continue;
        }
        let (ended, conversation) = ask(global, session, args.request(&line)?).await?;
        outcome = ended;
        args.request_id = None;
        args.conversation = conversation.map(ConversationIdArg).or(args.conversation);
    }
}
