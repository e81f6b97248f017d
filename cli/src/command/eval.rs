//! `auspex eval`: quality on published data sets, which are never part of this project.

use std::path::PathBuf;

use auspex_devnet::postgres::TestDatabase;
use auspex_inference::sts_spearman;
use auspex_oracle::retrieval::evaluation::{Collection, Quality, evaluate};
use clap::Subcommand;
use indicatif::ProgressBar;

use crate::command::corpus;
use crate::command::model::ModelArguments;
use crate::output::{Output, fields, table};

#[derive(Debug, Subcommand)]
pub(crate) enum EvalCommand {
    /// Embedding quality on STSBenchmark's test pairs: Spearman's rank correlation with human scores.
    #[command(after_help = "Example:\n  auspex eval sts stsbenchmark.tsv.gz")]
    Sts {
        /// The data set, as a table with tabs; may be compressed with gzip.
        file: PathBuf,
        #[command(flatten)]
        model: ModelArguments,
    },
    /// Retrieval on the Cranfield collection: nDCG@10 and MAP of BM25, dense search and their fusion.
    #[command(after_help = "Example:\n  auspex eval cranfield data/")]
    Cranfield {
        /// Directory with cranfield.docs.xml(.gz), cranfield.queries.xml and cranfield.qrels.txt.
        directory: PathBuf,
        #[command(flatten)]
        model: ModelArguments,
    },
}

pub(crate) async fn run(command: EvalCommand, output: Output) -> anyhow::Result<()> {
    match command {
        EvalCommand::Sts { file, model } => {
            let encoder = model.load().await?;
            let profile = encoder.profile().to_string();
            let report = tokio::task::spawn_blocking(move || sts_spearman(&encoder, &file));
            let report = report.await??;
            let value = serde_json::json!({
                "pairs": report.pairs,
                "profile": profile,
                "spearman": report.spearman,
            });
            output.result(&value, |_| {
                fields([
                    ("pairs", report.pairs.to_string()),
                    ("profile", profile.clone()),
                    ("Spearman", format!("{:.5}", report.spearman)),
                ])
            })
        }
        EvalCommand::Cranfield { directory, model } => {
            let collection = Collection::read(&directory)?;
            let embedder = corpus::load(&model).await?;
            // A database of its own, gone afterwards: an evaluation never touches an operator's corpora.
            let database = TestDatabase::create().await?;
            let bar = ProgressBar::new(collection.documents.len() as u64);
            let report = evaluate(&database.pool(), "cranfield", &embedder, &collection, |done| {
                bar.set_position(done as u64);
            })
            .await?;
            bar.finish_and_clear();
            let legs =
                [("BM25", report.lexical), ("dense", report.dense), ("fusion", report.fusion)];
            let rows: Vec<(&str, Quality)> = legs.to_vec();
            let value = serde_json::json!({
                "documents": report.documents,
                "queries": report.queries,
                "rows": rows.iter().map(|(leg, quality)| serde_json::json!({
                    "leg": leg,
                    "ndcgAt10": quality.ndcg_at_10,
                    "map": quality.mean_average_precision,
                })).collect::<Vec<_>>(),
            });
            output.result(&value, |_| {
                table(
                    ["leg", "nDCG@10", "MAP"],
                    rows.iter().map(|(leg, quality)| {
                        [
                            (*leg).to_owned(),
                            format!("{:.4}", quality.ndcg_at_10),
                            format!("{:.4}", quality.mean_average_precision),
                        ]
                    }),
                )
            })
        }
    }
}
