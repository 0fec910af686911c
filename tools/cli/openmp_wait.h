#pragma once

namespace kiln {

// Makes waiting OpenMP threads sleep soon, unless the user chose how they wait. By default GNU's library lets them spin
// for 300,000 rounds, which is 12 ms on a Xeon. While another program uses a core, each of about one hundred
// barriers in a step then costs a time slice: 100 steps of a tiny model took 22 s during a compilation, and 0.7 s with
// this. The library reads its environment before main, so this function sets GOMP_SPINCOUNT and executes the program
// again; if the variable is set, it does nothing. Call it at the start of main.
void sleep_when_threads_wait(char** argv);

}  // namespace kiln
