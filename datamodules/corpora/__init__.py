"""One file a corpus: its layout, file names, labels, licence and citation."""
