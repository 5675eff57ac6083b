"""Import of other tools' results: conversion of a finished run to tables and a program."""
