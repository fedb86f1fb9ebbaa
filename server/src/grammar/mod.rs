//! Which tokens may come next: schemas, regular expressions and grammars as masks.
