//! Tokens of an identity provider: JWTs, checked by its published keys (JWKS). Issuer, audience and algorithm are pinned by
//! configuration; nothing of a token's own header is believed but which key it names.

use std::sync::Mutex;
use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use entity::id::OrgId;
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use serde::Deserialize;

use super::{Known, Viewer};
use crate::config::Config;
use crate::db::Db;
use crate::error::{Error, Result};
use crate::{gate, limits};

/// The keys of an identity provider, and what its tokens must say.
#[derive(Debug)]
pub struct Tokens {
    source: String,
    algorithm: Algorithm,
    checks: Validation,
    client: reqwest::Client,
    kept: Mutex<Kept>,
    fetching: tokio::sync::Mutex<()>,
}

#[derive(Debug)]
struct Kept {
    keys: JwkSet,
    at: Option<Instant>,
}

/// What is read of a token.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    // A NumericDate is a number of seconds, and may have a fraction.
    exp: f64,
    nbf: Option<f64>,
    /// The id of the org; without it, the built-in one.
    org: Option<String>,
}

impl Tokens {
    /// By configuration; none where no issuer is configured.
    pub fn configured(config: &Config) -> Result<Option<Self>> {
        let given = (&config.jwt_issuer, &config.jwt_audience, &config.jwt_jwks);
        let (Some(issuer), Some(audience), Some(source)) = given else {
            return match given {
                (None, None, None) => Ok(None),
                _ => Err(Error::ours("jwt-issuer, jwt-audience and jwt-jwks are given together, or none of them")),
            };
        };
        let algorithm = config.jwt_algorithm.parse().map_err(|_| wrong_algorithm(&config.jwt_algorithm))?;
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(wrong_algorithm(&config.jwt_algorithm));
        }
        let mut checks = Validation::new(algorithm);
        checks.set_issuer(&[issuer]);
        checks.set_audience(&[audience]);
        checks.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // The time is ours to judge, by the clock that all else goes by.
        checks.validate_exp = false;
        checks.validate_nbf = false;
        crate::tls::begin();
        let client = reqwest::Client::builder().timeout(limits::JWKS_TIME).build().map_err(Error::ours)?;
        let kept = Mutex::new(Kept { keys: JwkSet { keys: Vec::new() }, at: None });
        let fetching = tokio::sync::Mutex::default();
        Ok(Some(Self { source: source.clone(), algorithm, checks, client, kept, fetching }))
    }

    /// Who shows a token; none where it is not one that counts.
    pub async fn check(&self, db: &Db, token: &str) -> Result<Option<Known>> {
        let Ok(header) = decode_header(token) else { return Ok(None) };
        if header.alg != self.algorithm {
            return Ok(None);
        }
        let Some(key) = self.key(header.kid.as_deref()).await? else { return Ok(None) };
        let Ok(claims) = decode::<Claims>(token, &key, &self.checks) else { return Ok(None) };
        if gate::text(&claims.claims.sub).is_err() {
            return Ok(None);
        }
        let (claims, now) = (claims.claims, db.now().timestamp_millis() as f64 / 1000.0);
        let leeway = limits::TOKEN_LEEWAY.as_secs_f64();
        if claims.exp + leeway <= now || claims.nbf.is_some_and(|at| at - leeway > now) {
            return Ok(None);
        }
        let org_id = match claims.org.as_deref().map(str::parse::<OrgId>) {
            None => entity::org::PLATFORM,
            Some(Ok(org_id)) => org_id,
            Some(Err(_)) => return Ok(None),
        };
        // The cast saturates; what lies beyond the calendar has no end.
        let until = DateTime::<Utc>::from_timestamp_millis(((claims.exp + leeway) * 1000.0) as i64);
        let viewer = Viewer::of_subject(db, org_id, &claims.sub).await?;
        Ok(viewer.map(|viewer| Known { viewer, until }))
    }

    /// The key that a token names; an unknown name has the keys fetched again, though not too often.
    async fn key(&self, name: Option<&str>) -> Result<Option<DecodingKey>> {
        match self.kept(name, limits::JWKS_KEPT) {
            Some(key) => Ok(Some(key)),
            None => {
                self.fetch().await?;
                Ok(self.kept(name, Duration::MAX))
            }
        }
    }

    fn kept(&self, name: Option<&str>, within: Duration) -> Option<DecodingKey> {
        let kept = self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if kept.at.is_none_or(|at| at.elapsed() > within) {
            return None;
        }
        let key = match name {
            Some(name) => kept.keys.find(name),
            None if kept.keys.keys.len() == 1 => kept.keys.keys.first(),
            None => None,
        };
        key.and_then(|key| DecodingKey::from_jwk(key).ok())
    }

    async fn fetch(&self) -> Result<()> {
        let _one = self.fetching.lock().await;
        let fetched = |kept: &Kept| kept.at.is_some_and(|at| at.elapsed() < limits::JWKS_AGAIN);
        if fetched(&self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner())) {
            return Ok(());
        }
        let text = if self.source.starts_with("https://") || self.source.starts_with("http://") {
            let response = self.client.get(&self.source).send().await.and_then(reqwest::Response::error_for_status);
            let mut response = response.map_err(|err| self.unreadable(err.without_url()))?;
            let mut text = Vec::new();
            while let Some(chunk) = response.chunk().await.map_err(|err| self.unreadable(err.without_url()))? {
                text.extend_from_slice(&chunk);
                if text.len() > limits::BODY_BYTES {
                    return Err(self.unreadable("too long"));
                }
            }
            text
        } else {
            tokio::fs::read(&self.source).await.map_err(|err| self.unreadable(err))?
        };
        let keys = serde_json::from_slice(&text).map_err(|err| self.unreadable(err))?;
        *self.kept.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Kept { keys, at: Some(Instant::now()) };
        Ok(())
    }

    fn unreadable(&self, why: impl std::fmt::Display) -> Error {
        Error::ours(format!("the keys at {} can't be read: {why}", self.source))
    }
}

fn wrong_algorithm(given: &str) -> Error {
    Error::ours(format!(
        "jwt-algorithm: `{given}` is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
    ))
}
