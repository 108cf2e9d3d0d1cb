//! `chatctl token`: mint a JWT, or ask the playground for one.

use crate::exit::Outcome;
use crate::{Global, cluster, output};
use anyhow::Context as _;
use client::token::{Claims, mint};
use serde_json::json;
use std::path::PathBuf;
use std::time::Duration;

const EXAMPLES: &str = "\
Examples:
  export CHATCTL_TOKEN=$(chatctl token)                  from the playground, as alice
  chatctl token --user bob --secret-file /run/jwt.key    signed here with HS256
  chatctl token --secret-file jwt.key --ttl 5m --issuer https://id.example.com
  CHATCTL_SECRET=… chatctl token --json                  {\"token\":…,\"user\":…,\"expiresInSeconds\":…}";

/// Print a token: signed with a secret, or the playground's.
#[derive(clap::Args)]
#[command(after_help = EXAMPLES)]
pub(crate) struct TokenArgs {
    /// The shared secret (HS256). On a command line others can read it: prefer --secret-file.
    #[arg(long, env = "CHATCTL_SECRET", hide_env_values = true, conflicts_with = "secret_file")]
    secret: Option<String>,
    /// A file that holds the secret; a line end at its end does not count.
    #[arg(long)]
    secret_file: Option<PathBuf>,
    /// How long the token lasts: 30s, 15m, 1h, 2d.
    #[arg(long, default_value = "1h", value_parser = duration)]
    ttl: Duration,
    /// The `iss` claim.
    #[arg(long)]
    issuer: Option<String>,
    /// The `aud` claim.
    #[arg(long)]
    audience: Option<String>,
}

/// A number and a unit: `500ms`, `30s`, `15m`, `1h`, `2d`; without a unit seconds.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().map_err(|_| "a number and a unit, like 30s".to_owned())?;
    let millis = match unit {
        "ms" => 1,
        "" | "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => 86_400_000,
        _ => return Err(format!("{unit}: ms, s, m, h or d")),
    };
    number.checked_mul(millis).map(Duration::from_millis).ok_or_else(|| "too long".to_owned())
}

pub(crate) async fn run(global: &Global, args: TokenArgs) -> anyhow::Result<Outcome> {
    let secret = match (&args.secret, &args.secret_file) {
        (Some(secret), _) => Some(secret.clone().into_bytes()),
        (None, Some(file)) => {
            let bytes = tokio::fs::read(file).await;
            let bytes = bytes.with_context(|| format!("cannot read {}", file.display()))?;
            Some(bytes.trim_ascii_end().to_vec())
        }
        (None, None) => None,
    };
    let (token, lasts) = match secret {
        Some(secret) => {
            // The edge of the program: here the clock is real.
            #[allow(clippy::disallowed_methods)]
            let now = jiff::Timestamp::now();
            let mut claims = Claims::new(&global.user, now, args.ttl);
            claims.iss = args.issuer;
            claims.aud = args.audience;
            (mint(&secret, &claims)?, Some(args.ttl.as_secs()))
        }
        None => {
            let (dev, _) = cluster::playground(global)
                .await?
                .context("no secret, and --url names no playground: pass --secret-file")?;
            (dev.token(&global.user).await?, None)
        }
    };
    if global.json {
        let mut body = json!({"token": token, "user": global.user});
        if let Some(seconds) = lasts {
            body["expiresInSeconds"] = seconds.into();
        }
        output::json(&body)?;
    } else {
        output::print(&format!("{token}\n"))?;
    }
    Ok(Outcome::Fine)
}
