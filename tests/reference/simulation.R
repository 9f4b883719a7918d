# P-values of the F test of the treatment in the data sets of tests/simulation_study.py.
# Run in this directory:
#   python -m tests.simulation_study --responses /tmp/responses.csv   (in the root of the project)
#   Rscript simulation.R /tmp/responses.csv > simulation.json

suppressPackageStartupMessages({
  library(lmerTest)
  library(pbkrtest)
  library(jsonlite)
})
data <- read.csv(commandArgs(TRUE)[1])
tight <- lmerControl(
  optimizer = "bobyqa", optCtrl = list(rhobeg = 0.02, rhoend = 1e-9, maxfun = 1e5), calc.derivs = FALSE,
  check.conv.singular = "ignore"
)
sets <- grep("^y[0-9]+$", names(data))
test <- function(k) {
  data$y <- data[[k]]
  fit <- lmer(y ~ t + x + (1 | row) + (1 | col), data, control = tight)
  satterthwaite <- anova(fit)["t", ]
  kr <- KRmodcomp(fit, lmer(y ~ x + (1 | row) + (1 | col), data, control = tight))$test["Ftest", ]
  signif(c(satterthwaite$`Pr(>F)`, satterthwaite$DenDF, kr$p.value, kr$ddf), 8)
}
answers <- suppressMessages(t(sapply(sets, test)))
cat(toJSON(list(
  versions = list(R = as.character(getRversion()), lme4 = as.character(packageVersion("lme4")),
    lmerTest = as.character(packageVersion("lmerTest")), pbkrtest = as.character(packageVersion("pbkrtest"))),
  satterthwaite = list(p = answers[, 1], df = answers[, 2]), kenward_roger = list(p = answers[, 3], df = answers[, 4])
), auto_unbox = TRUE, digits = NA))
