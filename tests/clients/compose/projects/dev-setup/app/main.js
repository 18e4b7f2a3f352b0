main 1
