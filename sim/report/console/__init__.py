"""What commands print: tables and sentences, made from the contract's JSON."""
