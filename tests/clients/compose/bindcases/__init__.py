"""What Docker's users do with files of the machine, each as observations that two engines can be compared by.

`engine` asks an engine, `machine` looks at the files, `suites` holds what there is to do; the other modules do it."""
