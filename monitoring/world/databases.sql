-- One database per operator: operators share nothing but the chain, the broker and the indexer.
create database auspex_operator_1;
create database auspex_operator_2;
create database auspex_operator_3;
