//! Tokens of an identity provider: JWTs, checked by its published keys (JWKS). Issuer, audience and algorithm are pinned by
//! configuration; nothing of a token's own header is believed but which key it names.

use chrono::{DateTime, Utc};
use entity::id::OrgId;
use jsonwebtoken::{Algorithm, Header, Validation, decode, decode_header};
use serde::Deserialize;

use super::jwks::{Found, Jwks};
use super::{AuthResult, Authenticated, Reason, Viewer};
use crate::kernel::config::Config;
use crate::kernel::db::Db;
use crate::kernel::error::{Error, Result};
use crate::kernel::{limits, storable};

/// The keys of an identity provider, and what its tokens must say.
#[derive(Debug)]
pub struct Tokens {
    algorithm: Algorithm,
    checks: Validation,
    keys: Jwks,
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
        let keys = Jwks::keep(source.clone(), algorithm)?;
        Ok(Some(Self { algorithm, checks, keys }))
    }

    /// A token's header, if such tokens are taken at all. What a header calls critical must be understood (RFC 7515,
    /// 4.1.11), and there is nothing here that is.
    fn header(&self, token: &str) -> Option<Header> {
        let header = decode_header(token).ok()?;
        (header.alg == self.algorithm && header.crit.is_none()).then_some(header)
    }

    /// Whether a token is the issuer's, as far as is known without asking anybody.
    pub fn is_signed(&self, token: &str) -> bool {
        let key = self.header(token).and_then(|header| self.keys.kept(header.kid.as_deref()));
        key.is_some_and(|key| decode::<Claims>(token, &key, &self.checks).is_ok())
    }

    /// Who shows a token, or why it is worth nothing; none while that can't be known, since the issuer is away.
    pub async fn check(&self, db: &Db, token: &str) -> Result<Option<AuthResult>> {
        let Some(header) = self.header(token) else { return Ok(Some(Err(Reason::Malformed.into()))) };
        let key = match self.keys.key(header.kid.as_deref()).await {
            Found::Key(key) => key,
            Found::None => return Ok(Some(Err(Reason::UnknownIssuerKey.into()))),
            Found::Away => return Ok(None),
        };
        self.judge(db, decode::<Claims>(token, &key, &self.checks).ok().map(|token| token.claims)).await.map(Some)
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
        // The cast saturates; what lies beyond the calendar has no end.
        let until = DateTime::<Utc>::from_timestamp_millis(((claims.exp + leeway) * 1000.0) as i64);
        let viewer = Viewer::of_subject(db, org_id, &claims.sub).await?;
        Ok(viewer.map(|viewer| Authenticated { viewer, until }).ok_or_else(|| Reason::NoMember.into()))
    }
}

fn wrong_algorithm(given: &str) -> Error {
    Error::ours(format!(
        "jwt-algorithm: `{given}` is not one of RS256, RS384, RS512, PS256, PS384, PS512, ES256, ES384, EdDSA"
    ))
}
