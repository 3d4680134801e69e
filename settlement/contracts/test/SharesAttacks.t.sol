// SPDX-License-Identifier: Apache-2.0
pragma solidity 0.8.37;

import {ShareOffering} from "../src/ShareOffering.sol";
import {FeeOnEveryTransfer} from "./Attacks.t.sol";
import {NaiveRelease, NaiveShares, NaiveVault} from "./NaiveShares.sol";
import {SharesTest} from "./SharesTest.sol";
import {vm} from "./Vm.sol";

/// @notice Attacks on shares by name. Each first works on naive shares, and then fails on ours.
contract SharesAttacksTest is SharesTest {
    address internal constant THIEF = address(0x666);
    uint256 internal constant MONTH = 30_000e6;

    NaiveShares internal naive;

    function setUp() public override {
        super.setUp();
        naive = new NaiveShares(token, ISSUER, SUPPLY);
    }

    /// @dev Shares borrowed for the moment of a claim: a month's income is released over a week, not to the borrower.
    function test_attack_borrower_of_shares_around_a_claim() public {
        vm.prank(ISSUER);
        naive.transfer(THIEF, SUPPLY);
        token.mint(address(naive), MONTH);
        naive.sync();
        vm.prank(THIEF);
        naive.transfer(ISSUER, SUPPLY);
        vm.prank(THIEF);
        naive.withdraw();
        vm.assertEq(token.balanceOf(THIEF), MONTH, "the borrower has the month");

        Payouts memory payouts = payoutsOf(address(shares), MONTH);
        uint256 one = activate(payouts);
        bytes32[] memory proof = proofOf(payouts, 0);
        give(ISSUER, THIEF, SUPPLY);
        shares.collect(one, MONTH, proof);
        wait(12); // Even for a block.
        give(THIEF, ISSUER, SUPPLY);
        vm.assertLe(shares.withdrawable(THIEF), MONTH * 12 / RELEASE, "twelve seconds of a week");
        wait(RELEASE);
        vm.assertGe(shares.withdrawable(ISSUER) + 1, MONTH - MONTH * 12 / RELEASE, "the rest is the lender's");
    }

    /// @dev A gift that makes a share dear, so that the next buyer's money rounds to no share at all.
    function test_attack_donation_to_shares_with_little_supply() public {
        NaiveVault vault = new NaiveVault(token);
        token.mint(THIEF, 10_001e6 + 1);
        token.mint(ALICE, 10_000e6);
        vm.prank(THIEF);
        token.approve(address(vault), 1);
        vm.prank(THIEF);
        vault.buy(1);
        vm.prank(THIEF);
        token.transfer(address(vault), 10_001e6);
        vm.prank(ALICE);
        token.approve(address(vault), 10_000e6);
        vm.prank(ALICE);
        vm.assertEq(vault.buy(10_000e6), 0, "Alice has paid for no share");
        vm.prank(THIEF);
        vm.assertEq(vault.cashOut(), 20_001e6 + 1, "and the thief has her money");

        shares = issue(2);
        ShareOffering offering = offer(2);
        buy(offering, THIEF, 1);
        pay(10_001e6);
        buy(offering, ALICE, 1);
        vm.assertEq(shares.balanceOf(ALICE), 1, "a share costs what it costs");
        wait(RELEASE);
        vm.assertEq(shares.withdrawable(ALICE), 5_000_500_000, "the gift was also hers, from her purchase on");
        vm.assertEq(shares.withdrawable(ISSUER), 0, "what the issuer sold earns nothing for it");
        vm.assertEq(shares.withdrawable(THIEF), 5_000_500_000, "the thief has given half away");
    }

    /// @dev Income below a unit a share, as a cheap machine with many shares has it every day.
    function test_attack_income_lost_by_rounding() public {
        naive = new NaiveShares(token, address(this), 1_000_000);
        token.mint(address(naive), 999_999);
        naive.sync();
        naive.withdraw();
        vm.assertEq(token.balanceOf(address(this)), 0, "the naive shares have lost it");

        shares = issue(1_000_000);
        pay(999_999);
        wait(RELEASE);
        vm.assertEq(withdraw(ISSUER), 999_999, "ours lose nothing");
    }

    /// @dev In the middle of a withdrawal what is being paid looks like income that has just arrived.
    function test_attack_income_counted_again_in_a_callback() public {
        token.mint(address(naive), 1_000);
        naive.sync();
        token.setHook(address(naive), abi.encodeCall(naive.sync, ()));
        vm.prank(ISSUER);
        naive.withdraw();
        vm.assertEq(naive.known(), 2_000, "the naive shares have counted it twice");
        token.setHook(address(0), "");

        pay(7_000);
        wait(RELEASE);
        token.setHook(address(shares), abi.encodeCall(shares.sync, ()));
        withdraw(ISSUER);
        vm.assertTrue(!token.hookSucceeded(), "refused");
        shares.sync();
        vm.assertEq(shares.received(), 7_000, "counted once");
    }

    /// @dev A unit every hour must not hold back what arrived before.
    function test_attack_dust_delays_the_release() public {
        NaiveRelease release = new NaiveRelease(token);
        token.mint(address(release), 7_000_000);
        release.sync();
        pay(7_000_000);
        for (uint256 hour = 0; hour < 7 * 24; ++hour) {
            wait(1 hours);
            token.mint(address(release), 1);
            release.sync();
            pay(1);
        }
        vm.assertLe(release.released(), 4_500_000, "a third is held back");
        vm.assertGe(shares.released(), 7_000_000, "ours are released as if there were no dust");
    }

    function test_attack_blocked_holder_stops_the_others() public {
        vm.prank(ISSUER);
        naive.transfer(ALICE, SUPPLY / 2);
        give(ISSUER, ALICE, SUPPLY / 2);
        token.mint(address(naive), 1_000);
        naive.sync();
        pay(1_000);
        wait(RELEASE);
        token.setBlocked(ALICE, true);
        address[] memory holders = new address[](2);
        (holders[0], holders[1]) = (ALICE, ISSUER);
        (bool ok,) = address(naive).call(abi.encodeCall(naive.payAll, (holders)));
        vm.assertTrue(!ok, "one holder stops all");

        vm.assertEq(withdraw(ISSUER), 500, "ours withdraw one by one");
        vm.prank(ALICE);
        vm.assertEq(shares.withdraw(CAROL), 500, "and the blocked one to another account");
    }

    /// @dev Income counts as it arrives, not as it was sent.
    function test_attack_fee_taking_token() public {
        FeeOnEveryTransfer fees = new FeeOnEveryTransfer();
        ledger = deploy(fees, DELAY);
        fees.mint(address(ledger), 2_000);
        naive = new NaiveShares(fees, ISSUER, SUPPLY);
        shares = issue(SUPPLY);
        (address[] memory accounts, uint256[] memory cumulatives) = (new address[](2), new uint256[](2));
        (accounts[0], accounts[1], cumulatives[0], cumulatives[1]) = (address(naive), address(shares), 1_000, 1_000);
        Payouts memory payouts = payoutsOf(accounts, cumulatives);
        uint256 one = activate(payouts);
        naive.noteOf(claim(one, payouts, 0));
        vm.prank(ISSUER);
        (bool ok,) = address(naive).call(abi.encodeCall(naive.withdraw, ()));
        vm.assertTrue(!ok, "the naive shares owe what never arrived");

        vm.assertEq(shares.collect(one, 1_000, proofOf(payouts, 1)), 900, "what arrived");
        wait(RELEASE);
        vm.assertEq(withdraw(ISSUER), 900, "can be withdrawn");
    }
}
