-- A worker that is kept for what was begun finds it without passing over everything that waits to be begun.
create index jobs_begun on oracle.jobs (deadline, sequence) where state = 'signed';
