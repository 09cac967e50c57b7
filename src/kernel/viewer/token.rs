//! Verifies the tokens (JWTs) of an identity provider with its published keys (JWKS).
//!
//! Issuer, audience and algorithm are pinned by configuration; the token's own header is trusted
//! only for the id of the key.

use chrono::{DateTime, Utc};
use entity::id::OrgId;
use jsonwebtoken::{Algorithm, DecodingKey, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::jwks::{Jwks, KeyLookup};
use super::{AuthResult, Authenticated, Reason, Viewer};
use crate::kernel::config::Config;
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};

/// The keys of an identity provider, and the required claims.
#[derive(Debug)]
pub struct Tokens {
    algorithm: Algorithm,
    checks: Validation,
    keys: Jwks,
}

/// The claims that are read.
#[derive(Deserialize)]
struct Claims {
    sub: String,
    /// One issuer, which is compared when the token is decoded; a list is none (RFC 7519, 4.1.1).
    #[serde(rename = "iss")]
    _issuer: String,
    // A NumericDate counts seconds and may have a fraction.
    exp: f64,
    nbf: Option<f64>,
    /// Org id; the built-in org if absent.
    org: Option<String>,
}

impl Tokens {
    /// Creates the verifier from the configuration; none if no issuer is configured.
    pub fn configured(config: &Config) -> Result<Option<Self>> {
        let given = (&config.jwt_issuer, &config.jwt_audience, &config.jwt_jwks);
        let (Some(issuer), Some(audience), Some(source)) = given else {
            return match given {
                (None, None, None) => Ok(None),
                _ => Err(Error::internal("jwt-issuer, jwt-audience and jwt-jwks: set all three, or none of them")),
            };
        };
        let algorithm = config.jwt_algorithm.parse().map_err(|_| wrong_algorithm(&config.jwt_algorithm))?;
        if matches!(algorithm, Algorithm::HS256 | Algorithm::HS384 | Algorithm::HS512) {
            return Err(wrong_algorithm(&config.jwt_algorithm));
        }
        let mut checks = Validation::new(algorithm);
        checks.set_issuer(&[issuer]);
        checks.set_audience(&[audience]);
        // The crate counts an expiry that is no `u64` as missing; `Claims` requires a number itself.
        checks.set_required_spec_claims(&["iss", "aud", "sub"]);
        // Validity is judged below, with the clock that everything else uses.
        checks.validate_exp = false;
        checks.validate_nbf = false;
        let keys = Jwks::keep(source.clone(), algorithm)?;
        Ok(Some(Self { algorithm, checks, keys }))
    }

    /// The token's header, if it uses the accepted algorithm. An extension that a header marks as
    /// critical must be understood (RFC 7515, 4.1.11), and none is supported.
    fn header(&self, token: &str) -> Option<Header> {
        let header = decode_header(token).ok()?;
        (header.alg == self.algorithm && header.crit.is_none()).then_some(header)
    }

    /// True if a cached key verifies the token's signature, issuer and audience; never waits for
    /// the issuer.
    pub fn is_signed(&self, token: &str) -> bool {
        let keys = self.header(token).map(|header| self.keys.cached_keys(header.kid.as_deref()));
        keys.is_some_and(|keys| self.claims(token, &keys).is_some())
    }

    /// Authenticates a token; `None` if that is impossible for now, because the issuer is
    /// unreachable.
    pub async fn check(&self, db: &Db, token: &str) -> Result<Option<AuthResult>> {
        let Some(header) = self.header(token) else { return Ok(Some(Err(Reason::Malformed.into()))) };
        let keys = match self.keys.keys(header.kid.as_deref()).await {
            KeyLookup::Keys(keys) => keys,
            KeyLookup::None => return Ok(Some(Err(Reason::UnknownIssuerKey.into()))),
            KeyLookup::Unreachable => return Ok(None),
        };
        self.judge(db, self.claims(token, &keys)).await.map(Some)
    }

    /// The token's claims, if one of the keys verifies it.
    fn claims(&self, token: &str, keys: &[DecodingKey]) -> Option<Claims> {
        keys.iter().find_map(|key| decode::<Claims>(token, key, &self.checks).ok()).map(|token| token.claims)
    }

    async fn judge(&self, db: &Db, claims: Option<Claims>) -> Result<AuthResult> {
        let Some(claims) = claims.filter(|claims| storable::text(&claims.sub).is_ok()) else {
            return Ok(Err(Reason::WrongSignature.into()));
        };
        let now = db.now().timestamp_millis() as f64 / 1000.0;
        let leeway = limits::TOKEN_LEEWAY.as_secs_f64();
        if claims.exp + leeway <= now {
            return Ok(Err(Reason::Expired.into()));
        }
        if claims.nbf.is_some_and(|at| at - leeway > now) {
            return Ok(Err(Reason::NotYet.into()));
        }
        let org_id = match claims.org.as_deref().map(str::parse::<OrgId>) {
            None => entity::org::PLATFORM,
            Some(Ok(org_id)) => org_id,
            Some(Err(_)) => return Ok(Err(Reason::NoMember.into())),
        };
        // The cast saturates; an expiry beyond the calendar means no expiry.
        let until = DateTime::<Utc>::from_timestamp_millis(((claims.exp + leeway) * 1000.0) as i64);
        let viewer = Viewer::of_subject(db, org_id, &claims.sub).await?;
        Ok(viewer.map(|viewer| Authenticated { viewer, until }).ok_or_else(|| Reason::NoMember.into()))
    }
}

fn wrong_algorithm(given: &str) -> Error {
    Error::internal(format!(
        "jwt-algorithm: `{given}` is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
    ))
}
