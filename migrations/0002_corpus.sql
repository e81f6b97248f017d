-- Corpora: what answers are taken from.
--
-- A document becomes chunks, a chunk an embedding and postings of words. One document is added, replaced or removed in one
-- transaction that also changes its corpus's totals, so a search in one snapshot sees whole documents and true totals.
-- All arithmetic of retrieval is on integers: operators with the same corpus root find the same chunks with the same
-- scores on any machine.

create extension if not exists vector;

create schema corpus;

create table corpus.corpora (
    id bigint generated always as identity primary key,
    name text not null,
    -- Who made the embeddings; another model's do not compare with them.
    model_hash bytea not null,
    -- The rules that every document of the corpus is cut by.
    tokens_max integer not null,
    overlap_tokens integer not null,
    -- Totals of BM25, kept by the transactions that change documents.
    chunks bigint not null default 0,
    words bigint not null default 0,
    -- Merkle root over the chunks' leaves in the order of their ids; null after a change until it is next asked for.
    root bytea,
    -- The chunks have an HNSW index, so that searches are approximate.
    approximate boolean not null default false,
    created_at timestamptz not null default now(),
    constraint corpora_name unique (name),
    constraint corpora_name_length check (octet_length(name) between 1 and 128),
    constraint corpora_model_hash check (octet_length(model_hash) = 32),
    constraint corpora_root check (octet_length(root) = 32),
    constraint corpora_rules check (overlap_tokens >= 0 and tokens_max > overlap_tokens),
    constraint corpora_totals check (chunks >= 0 and words >= 0)
);
create index corpora_root_lookup on corpus.corpora (root);

create table corpus.documents (
    id bigint generated always as identity primary key,
    corpus_id bigint not null references corpus.corpora (id) on delete cascade,
    name text not null,
    -- SHA-256 of the file. A file with the hash that is stored here is not read again.
    hash bytea not null,
    media text not null,
    title text not null,
    bytes bigint not null,
    added_at timestamptz not null default now(),
    constraint documents_name unique (corpus_id, name),
    constraint documents_name_length check (octet_length(name) between 1 and 512),
    constraint documents_hash check (octet_length(hash) = 32)
);

create table corpus.chunks (
    -- Joins the narrow tables below; of no meaning outside this database.
    key bigint generated always as identity primary key,
    corpus_id bigint not null references corpus.corpora (id) on delete cascade,
    document_id bigint not null references corpus.documents (id) on delete cascade,
    -- The chunk's identity everywhere else: a hash of the document's name and hash and of the span.
    id bytea not null,
    -- Bytes [start, end) of the document's extracted text, and those bytes.
    start_byte integer not null,
    end_byte integer not null,
    text text not null,
    -- Headings above the chunk; embedded and indexed together with the text.
    section text not null,
    -- The hash that stands for this chunk in the corpus's Merkle tree.
    leaf bytea not null,
    constraint chunks_id unique (corpus_id, id),
    constraint chunks_id_length check (octet_length(id) = 32),
    constraint chunks_leaf_length check (octet_length(leaf) = 32),
    constraint chunks_span check (start_byte >= 0 and end_byte - start_byte = octet_length(text) and text <> '')
);
create index chunks_document on corpus.chunks (document_id);

-- Apart from the text, so that an exact search reads as few pages as possible.
--
-- The components are the quantised ones, whole numbers from -127 to 127. Half precision holds them exactly, and every
-- partial sum of an inner product of 384 of them is a whole number below 2^24, which single precision holds exactly.
-- The distance is therefore the same on every machine, whatever order its vector units add in, and equals the inner
-- product of the bytes that the Merkle root commits to.
create table corpus.embeddings (
    chunk_key bigint primary key references corpus.chunks (key) on delete cascade,
    corpus_id bigint not null,
    chunk_id bytea not null,
    embedding halfvec(384) not null
);
create index embeddings_corpus on corpus.embeddings (corpus_id);

-- How often a word (stemmed, without stop words) occurs in a chunk. `words` is the chunk's number of words, repeated here
-- so that a score needs no join.
create table corpus.postings (
    corpus_id bigint not null,
    word text not null,
    chunk_key bigint not null references corpus.chunks (key) on delete cascade,
    frequency integer not null,
    words integer not null,
    primary key (corpus_id, word, chunk_key),
    constraint postings_frequency check (0 < frequency and frequency <= words)
);
-- Removing a chunk looks its postings up by the chunk.
create index postings_chunk on corpus.postings (chunk_key);
