//! Asks workers what they hold, over HTTP/2, page by page.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Bytes;
use hyper::{Request, Uri};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use schemas::NodeId;
use tokio::runtime::Runtime;

use crate::web::held::{Asked, Cursor, Held, PATH};

/// A page is answered within this, or not.
const PAGE_MAX: Duration = Duration::from_secs(30);

/// So many entries are asked for at a time.
const PAGE_ENTRIES: u32 = 2000;

/// A longer answer is none; a worker's own limit is below.
const PAGE_BYTES_MAX: usize = 64 << 20;

/// Talks to workers.
pub struct Workers {
    runtime: Runtime,
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Workers {
    pub fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("begin the runtime that asks workers")?;
        let client = Client::builder(TokioExecutor::new()).http2_only(true).build_http();
        Ok(Self { runtime, client })
    }

    /// Returns the roles and floors of a worker.
    pub fn head(&self, node: &NodeId, endpoint: &str) -> anyhow::Result<Held> {
        self.page(node, endpoint, 0, None)
    }

    /// Shows all that a worker holds; every page is of one moment.
    pub fn dump(
        &self,
        node: &NodeId,
        endpoint: &str,
        mut each: impl FnMut(&Held),
    ) -> anyhow::Result<()> {
        let mut after = None;
        loop {
            let page = self.page(node, endpoint, PAGE_ENTRIES, after.as_ref())?;
            each(&page);
            let Some(next) = page.next else { return Ok(()) };
            ensure!(after.as_ref() != Some(&next), "{node} does not go on behind {}", text(&next));
            after = Some(next);
        }
    }

    fn page(
        &self,
        node: &NodeId,
        endpoint: &str,
        limit: u32,
        after: Option<&Cursor>,
    ) -> anyhow::Result<Held> {
        let address = format!("http://{endpoint}{PATH}");
        // Keys may be longer than an address.
        let asked = Asked { after: after.cloned(), limit: Some(limit) };
        let asked = serde_json::to_vec(&asked).context("ask for a page")?;
        let uri: Uri = address.parse().with_context(|| format!("{endpoint} is no endpoint"))?;
        let ask = async {
            let request = Request::post(uri).body(Full::from(asked)).context("ask for a page")?;
            let response = self.client.request(request).await;
            let response = response.with_context(|| format!("ask {address}"))?;
            let status = response.status();
            let body = Limited::new(response.into_body(), PAGE_BYTES_MAX).collect().await;
            let body = match body {
                Ok(body) => body.to_bytes(),
                Err(err) => bail!("read the answer of {address}: {err}"),
            };
            ensure!(status.is_success(), "{address} answers {status}");
            serde_json::from_slice::<Held>(&body)
                .with_context(|| format!("read what {address} says"))
        };
        let page = self.runtime.block_on(async { tokio::time::timeout(PAGE_MAX, ask).await });
        let page = page.with_context(|| format!("{address} does not answer"))??;
        ensure!(page.node == *node, "{endpoint}, the endpoint of {node}, is of {} now", page.node);
        Ok(page)
    }
}

fn text(cursor: &Cursor) -> String {
    cursor.clone().into()
}
